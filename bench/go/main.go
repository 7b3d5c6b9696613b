// The same two services as a good Go team builds them: net/http, gorilla/mux, client_golang, zerolog, gobreaker.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"
)

type user struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

type orderUser struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type order struct {
	ID       string     `json:"id"`
	Quantity int        `json:"quantity"`
	User     *orderUser `json:"user"`
}

type contextKey struct{}

type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(data []byte) (int, error) {
	n, err := w.ResponseWriter.Write(data)
	w.bytes += n
	return n, err
}

var (
	logger = zerolog.New(os.Stdout).With().Timestamp().Str("service", "reference").Logger()

	requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "Requests answered."},
		[]string{"method", "route", "status"})
	durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_request_duration_seconds", Help: "Time to answer."},
		[]string{"method", "route"})
	calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_call_duration_seconds", Help: "Time of a call's attempt."},
		[]string{"peer", "status"})
)

func newID(bytes int) string {
	id := make([]byte, bytes)
	_, _ = rand.Read(id)
	return hex.EncodeToString(id)
}

// observed does what every service needs: a trace id in the context, a deadline, metrics by route, one JSON line.
func observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		trace := ""
		if parts := strings.Split(r.Header.Get("traceparent"), "-"); len(parts) == 4 {
			trace = parts[1]
		} else {
			trace = newID(16)
		}
		limit := 10 * time.Second
		if ms, err := strconv.Atoi(r.Header.Get("x-request-timeout-ms")); err == nil {
			limit = time.Duration(ms) * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), contextKey{}, trace), limit)
		defer cancel()
		w.Header().Set("x-trace-id", trace)
		writer := &statusWriter{ResponseWriter: w, status: 200}
		next.ServeHTTP(writer, r.WithContext(ctx))

		route := "unmatched"
		if current := mux.CurrentRoute(r); current != nil {
			route, _ = current.GetPathTemplate()
		}
		took := time.Since(started)
		requests.WithLabelValues(r.Method, route, strconv.Itoa(writer.status)).Inc()
		durations.WithLabelValues(r.Method, route).Observe(took.Seconds())
		logger.Info().Str("trace_id", trace).Str("method", r.Method).Str("route", route).Str("path", r.URL.Path).
			Int("status", writer.status).Int("bytes", writer.bytes).Dur("duration_ms", took).Str("peer", r.RemoteAddr).Msg("request")
	})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

var errAbsent = errors.New("absent")

// users calls the user service: pooled, with a timeout, at most two retries and a breaker.
type users struct {
	url     string
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[*orderUser]
}

func newUsers(url string) *users {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	return &users{url: url, client: &http.Client{Transport: transport}, breaker: gobreaker.NewCircuitBreaker[*orderUser](gobreaker.Settings{
		Name: "user", Timeout: 30 * time.Second, MaxRequests: 1,
		ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= 5 },
		// Callers that hang up say nothing about the peer.
		IsSuccessful: func(err error) bool {
			return err == nil || errors.Is(err, errAbsent) || errors.Is(err, context.Canceled)
		},
	})}
}

func (u *users) find(ctx context.Context, id string) (*orderUser, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return u.breaker.Execute(func() (*orderUser, error) {
		var failure error
		for attempt := 0; attempt < 3; attempt++ {
			found, err := u.attempt(ctx, id)
			if err == nil || errors.Is(err, errAbsent) {
				return found, err
			}
			failure = err
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(25 * time.Millisecond << attempt):
			}
		}
		return nil, failure
	})
}

func (u *users) attempt(ctx context.Context, id string) (*orderUser, error) {
	started := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/users/"+id, nil)
	if err != nil {
		return nil, err
	}
	trace, _ := ctx.Value(contextKey{}).(string)
	request.Header.Set("traceparent", "00-"+trace+"-"+newID(8)+"-01")
	if deadline, ok := ctx.Deadline(); ok {
		request.Header.Set("x-request-timeout-ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	response, err := u.client.Do(request)
	if err != nil {
		calls.WithLabelValues("user", "error").Observe(time.Since(started).Seconds())
		return nil, err
	}
	defer response.Body.Close()
	calls.WithLabelValues("user", strconv.Itoa(response.StatusCode)).Observe(time.Since(started).Seconds())
	switch {
	case response.StatusCode == http.StatusNotFound:
		return nil, errAbsent
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("user answered %d", response.StatusCode)
	}
	found := &orderUser{}
	return found, json.NewDecoder(response.Body).Decode(found)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference PORT   (USER_URL names the user service)")
		os.Exit(2)
	}
	prometheus.MustRegister(requests, durations, calls)
	known := map[string]user{}
	quantities := map[string]int{}
	for number := 0; number < 1000; number++ {
		id := strconv.Itoa(number)
		known[id] = user{id, "user " + id, "u" + id + "@a.de"}
		quantities[id] = number
	}
	peer := newUsers(os.Getenv("USER_URL"))

	router := mux.NewRouter()
	router.Use(observed)
	router.Handle("/metrics", promhttp.Handler())
	router.HandleFunc("/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		found, ok := known[mux.Vars(r)["id"]]
		if !ok {
			answer(w, http.StatusNotFound, map[string]string{"title": "Not Found"})
			return
		}
		answer(w, http.StatusOK, found)
	}).Methods(http.MethodGet)
	router.HandleFunc("/orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := mux.Vars(r)["id"]
		quantity, ok := quantities[id]
		if !ok {
			answer(w, http.StatusNotFound, map[string]string{"title": "Not Found"})
			return
		}
		found, err := peer.find(r.Context(), id)
		if err != nil && !errors.Is(err, errAbsent) {
			answer(w, http.StatusServiceUnavailable, map[string]string{"title": "Service Unavailable", "detail": err.Error()})
			return
		}
		answer(w, http.StatusOK, order{id, quantity, found})
	}).Methods(http.MethodGet)

	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: router, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
