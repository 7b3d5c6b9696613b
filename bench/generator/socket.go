//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"unsafe"
)

const epollPwait2 = 441 // epoll_wait with nanoseconds: the same number on every architecture

// connection sends one request at a time and knows only answers with a Content-Length, as all measured ones have.
type connection struct {
	fd         int
	due, freed int64 // nanoseconds since the start
	held       []byte
	used, want int
	status     int
}

func connect(address string, watch *watch, number int) (*connection, error) {
	dialled, err := net.Dial("tcp4", address)
	if err != nil {
		return nil, err
	}
	defer dialled.Close()
	file, err := dialled.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	fd := int(file.Fd())
	kept, err := syscall.Dup(fd) // out of reach of Go's own poller
	if err != nil {
		return nil, err
	}
	_ = file.Close()
	if err := syscall.SetNonblock(kept, true); err != nil {
		return nil, err
	}
	return &connection{fd: kept, held: make([]byte, 256<<10)}, watch.add(kept, number)
}

func (c *connection) send(request []byte) error {
	c.used, c.want = 0, 0
	if n, err := syscall.Write(c.fd, request); err != nil || n < len(request) {
		return fmt.Errorf("a request could not be sent whole: %v", err)
	}
	return nil
}

// read takes what is there; the status once an answer is whole, else 0.
func (c *connection) read() (int, error) {
	n, err := syscall.Read(c.fd, c.held[c.used:])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return 0, nil
	}
	if err != nil || n == 0 {
		return 0, fmt.Errorf("the server closed a connection: %v", err)
	}
	c.used += n
	if c.want == 0 {
		if err := c.head(); err != nil || c.want == 0 {
			return 0, err
		}
	}
	if c.used < c.want {
		return 0, nil
	}
	return c.status, nil
}

// head reads status and length of the answer once its head is whole.
func (c *connection) head() error {
	got := c.held[:c.used]
	end := bytes.Index(got, []byte("\r\n\r\n"))
	if end < 0 {
		return nil
	}
	status, err := strconv.Atoi(string(got[9:12]))
	if err != nil {
		return err
	}
	for _, line := range bytes.Split(got[:end], []byte("\r\n"))[1:] {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return err
			}
			c.status, c.want = status, end+4+length
			if c.want > len(c.held) {
				return fmt.Errorf("an answer of %d bytes is more than was meant to be measured", c.want)
			}
			return nil
		}
	}
	return errors.New("an answer has no content-length")
}

// watch tells which connections have something to read.
type watch struct {
	fd     int
	events []syscall.EpollEvent
}

func newWatch(most int) (*watch, error) {
	fd, err := syscall.EpollCreate1(0)
	return &watch{fd, make([]syscall.EpollEvent, most)}, err
}

func (w *watch) add(fd, number int) error {
	return syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(number)})
}

// wait waits for at most so many nanoseconds.
func (w *watch) wait(most int64) ([]syscall.EpollEvent, error) {
	limit := syscall.NsecToTimespec(most)
	n, _, err := syscall.RawSyscall6(epollPwait2, uintptr(w.fd), uintptr(unsafe.Pointer(&w.events[0])),
		uintptr(len(w.events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	if err == syscall.EINTR {
		return nil, nil
	}
	if err != 0 {
		return nil, err
	}
	return w.events[:n], nil
}
