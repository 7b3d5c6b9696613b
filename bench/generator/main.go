//go:build linux

// An open loop: requests are due at a fixed rate, whatever has become of those before them.
//
// A request goes to the connection that has been free for longest when it is due. When none is free it waits, and that
// time counts: latency is taken from the moment a request was due, so that a stall is seen by all that were due in it.
// One thread, and no garbage collection while it measures.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

const patience = 5 * time.Second // for answers, after the last request was due

type report struct {
	Asked    float64 `json:"asked_rps"`
	Answered int     `json:"answered"`
	Failed   int     `json:"failed"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Most     float64 `json:"max_ms"`
	Lag      float64 `json:"lag_p99_ms"` // how late the generator was itself, where a connection was free
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
	watch, err := newWatch(count)
	if err != nil {
		return report{}, err
	}
	connections := make([]*connection, count)
	free := make(chan *connection, count)
	for number := range connections {
		if connections[number], err = connect(address, watch, number); err != nil {
			return report{}, err
		}
		free <- connections[number]
	}
	total := max(1, int(rate*seconds))
	latencies, lags := make([]int64, 0, total), make([]int64, 0, total)
	failed, sent, pending := 0, 0, 0
	began := time.Now()
	end := int64(seconds*1e9) + int64(patience)
	for sent < total || pending > 0 {
		now := int64(time.Since(began))
		for sent < total && len(free) > 0 && due(sent, rate) <= now {
			c := <-free
			c.due = due(sent, rate)
			lags = append(lags, now-max(c.due, c.freed))
			if err := c.send(request); err != nil {
				return report{}, err
			}
			sent++
			pending++
			now = int64(time.Since(began))
		}
		if now > end {
			failed += pending + total - sent
			break
		}
		ready, err := watch.wait(pause(nap, sent < total && len(free) > 0, due(sent, rate)-now))
		if err != nil {
			return report{}, err
		}
		for _, event := range ready {
			c := connections[event.Fd]
			status, err := c.read()
			if err != nil {
				return report{}, err
			}
			if status == 0 { // there is more to come
				continue
			}
			c.freed = int64(time.Since(began))
			latencies = append(latencies, c.freed-c.due)
			if status/100 != 2 {
				failed++
			}
			pending--
			free <- c
		}
	}
	return report{
		rate, len(latencies), failed, share(latencies, 0.5), share(latencies, 0.99), share(latencies, 0.999),
		share(latencies, 1), share(lags, 0.99),
	}, nil
}

func due(number int, rate float64) int64 { return int64(float64(number) / rate * 1e9) }

// pause is how long to wait for answers, in nanoseconds: not at all on a core of one's own.
func pause(nap, sendable bool, left int64) int64 {
	switch {
	case !nap:
		return 0
	case sendable:
		return max(0, left)
	}
	return int64(10 * time.Millisecond)
}

// share is the time in ms that this share of all took at most.
func share(taken []int64, part float64) float64 {
	if len(taken) == 0 {
		return 0
	}
	slices.Sort(taken)
	return float64(taken[max(0, min(len(taken)-1, int(part*float64(len(taken))+0.5)-1))]) / 1e6
}
