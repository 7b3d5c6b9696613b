//go:build linux

// An open loop: requests are due at a fixed rate, whatever has become of those before them.
//
// A request goes to whichever connection is free when it is due; when none is, it waits, and that time counts: latency is
// taken from the moment a request was due, so that a stall is seen by all that were due in it. One thread, no allocation
// and no garbage collection while it measures.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	epollPwait2 = 441 // the same number on every architecture: epoll_wait with nanoseconds
	patience    = 5 * time.Second
)

type connection struct {
	fd   int
	due  int64 // of the request under way, in nanoseconds since the start
	held []byte
	used int
}

type report struct {
	Asked    float64 `json:"asked_rps"`
	Answered int     `json:"answered"`
	Failed   int     `json:"failed"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Most     float64 `json:"max_ms"`
	OwnLag   float64 `json:"own_lag_p99_ms"` // how late the generator itself was where a connection was free
}

func main() {
	address := flag.String("address", "", "host:port")
	path := flag.String("path", "/", "what to GET")
	rate := flag.Float64("rate", 0, "requests per second")
	seconds := flag.Float64("seconds", 1, "how long requests are due")
	count := flag.Int("connections", 1, "connections")
	nap := flag.Bool("nap", false, "sleep until something is due, instead of spinning: for a core that is shared")
	flag.Parse()
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	result, err := run(*address, *path, *rate, *seconds, *count, *nap)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}

func run(address, path string, rate, seconds float64, count int, nap bool) (report, error) {
	request := []byte("GET " + path + " HTTP/1.1\r\nhost: " + address + "\r\n\r\n")
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		return report{}, err
	}
	connections, free, err := connect(poll, address, count)
	if err != nil {
		return report{}, err
	}
	total := max(1, int(rate*seconds))
	latencies, lags := make([]int64, 0, total), make([]int64, 0, total)
	events := make([]syscall.EpollEvent, count)
	failed, sent, pending := 0, 0, 0
	began := time.Now()
	end := int64(seconds*1e9) + int64(patience)
	last := int64(0) // when a connection last became free where there was none: until then nobody could send
	for sent < total || pending > 0 {
		now := int64(time.Since(began))
		for sent < total && len(free) > 0 && due(sent, rate) <= now {
			c := connections[free[len(free)-1]]
			free = free[:len(free)-1]
			c.due, c.used = due(sent, rate), 0
			lags = append(lags, now-max(c.due, min(last, now)))
			if n, err := syscall.Write(c.fd, request); err != nil || n < len(request) {
				return report{}, fmt.Errorf("a request could not be sent: %v", err)
			}
			sent++
			pending++
			now = int64(time.Since(began))
		}
		if now > end {
			failed += pending + total - sent
			break
		}
		wait := int64(0)
		if nap && (sent == total || len(free) == 0) {
			wait = int64(10 * time.Millisecond)
		} else if nap {
			wait = max(0, due(sent, rate)-now)
		}
		n, err := waitFor(poll, events, wait)
		if err != nil {
			return report{}, err
		}
		none := len(free) == 0
		for _, event := range events[:n] {
			c := connections[event.Fd]
			whole, ok, err := c.read()
			if err != nil {
				return report{}, err
			}
			if !whole {
				continue
			}
			now = int64(time.Since(began))
			latencies = append(latencies, now-c.due)
			if !ok {
				failed++
			}
			pending--
			free = append(free, int(event.Fd))
			if none {
				last, none = now, false
			}
		}
	}
	return summary(rate, latencies, lags, failed), nil
}

func due(number int, rate float64) int64 { return int64(float64(number) / rate * 1e9) }

func connect(poll int, address string, count int) (map[int]int, []int, error) {
	return nil, nil, nil
}
