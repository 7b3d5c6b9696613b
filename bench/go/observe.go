package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const (
	handlerLimit = 10 * time.Second
	mostInFlight = 1000
)

type contextKey struct{}

// span is what travels with a request besides its deadline.
type span struct{ trace, id, flags string }

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

// observer holds what every request is counted and logged by.
type observer struct {
	logger   zerolog.Logger
	requests *prometheus.HistogramVec
	active   prometheus.Gauge
	attempts *prometheus.HistogramVec
	calls    *prometheus.HistogramVec
	inFlight atomic.Int64
}

func newObserver(service, instance string) *observer {
	zerolog.TimestampFieldName = "time"
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	o := &observer{
		logger: zerolog.New(os.Stdout).With().Timestamp().Str("logger", "access").Str("service", service).
			Str("version", "1.0.0").Str("instance", instance).Logger(),
		requests: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "http_server_request_duration_seconds", Help: "Time to answer."},
			[]string{"http_request_method", "http_route", "http_response_status_code"}),
		active: prometheus.NewGauge(
			prometheus.GaugeOpts{Name: "http_server_active_requests", Help: "Requests being answered now."}),
		attempts: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "http_client_request_duration_seconds", Help: "Time of an attempt."},
			[]string{"peer", "http_request_method", "http_response_status_code"}),
		calls: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "call_duration_seconds", Help: "Time of a call with its retries."},
			[]string{"peer", "outcome"}),
	}
	prometheus.MustRegister(o.requests, o.active, o.attempts, o.calls)
	return o
}

// newID is random and not secret, as in Mizzen.
func newID(bytes int) string {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return hex.EncodeToString(id[:bytes])
}

func isHex(text string) bool {
	for at := range len(text) {
		if c := text[at]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// receive reads the caller's traceparent; one that is absent or malformed is made anew.
func receive(r *http.Request) span {
	given := r.Header.Get("traceparent")
	if len(given) == 55 && given[:3] == "00-" && given[35] == '-' && given[52] == '-' &&
		isHex(given[3:35]) && isHex(given[36:52]) && isHex(given[53:]) {
		return span{given[3:35], newID(8), given[53:]}
	}
	trace := newID(16)
	return span{trace, trace[:16], "01"}
}

// observed does what every service needs: shed, a trace in the context, a deadline, metrics by route, one JSON line.
func (o *observer) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		current := receive(r)
		w.Header().Set("x-trace-id", current.trace)
		writer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		o.active.Inc()
		if o.inFlight.Add(1) > mostInFlight {
			w.Header().Set("retry-after", "0")
			problem(writer, http.StatusServiceUnavailable, "too much at once")
		} else {
			limit := handlerLimit
			if ms, err := strconv.Atoi(r.Header.Get("x-request-timeout-ms")); err == nil && ms > 0 {
				limit = min(limit, time.Duration(ms)*time.Millisecond)
			}
			ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), contextKey{}, current), limit)
			next.ServeHTTP(writer, r.WithContext(ctx))
			cancel()
		}
		o.inFlight.Add(-1)
		o.active.Dec()

		route := "unmatched"
		if matched := mux.CurrentRoute(r); matched != nil {
			route, _ = matched.GetPathTemplate()
		}
		took, status := time.Since(started), strconv.Itoa(writer.status)
		o.requests.WithLabelValues(r.Method, route, status).Observe(took.Seconds())
		o.logger.Info().Str("trace_id", current.trace).Str("span_id", current.id).Str("method", r.Method).
			Str("route", route).Str("path", r.URL.Path).Int("status", writer.status).Dur("duration_ms", took).
			Int("bytes", writer.bytes).Str("peer", r.RemoteAddr).Msg(r.Method + " " + r.URL.Path + " " + status)
	})
}
