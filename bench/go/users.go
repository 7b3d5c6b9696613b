package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	callTimeout = 2 * time.Second
	mostRetries = 2
	backoffBase = 25 * time.Millisecond
	backoffCap  = 250 * time.Millisecond
)

var errAbsent = errors.New("absent")

// transient is a failure that another attempt may not have.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// users calls the user service: one pooled client, a timeout, at most two retries, a breaker.
type users struct {
	url     string
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[*orderUser]
	seen    *observer
}

func newUsers(base string, seen *observer) *users {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The default of 2 connections per host (100 in all) makes a new one for nearly every call under load.
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1024
	transport.IdleConnTimeout = 30 * time.Second
	return &users{url: base, client: &http.Client{Transport: transport}, seen: seen, breaker: gobreaker.NewCircuitBreaker[*orderUser](
		gobreaker.Settings{
			Name: "user", Timeout: 30 * time.Second, MaxRequests: 1,
			ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= 5 },
			// Callers that hang up say nothing about the peer.
			IsSuccessful: func(err error) bool {
				return err == nil || errors.Is(err, errAbsent) || errors.Is(err, context.Canceled)
			},
		})}
}

func (u *users) find(ctx context.Context, id string) (*orderUser, error) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := u.breaker.Execute(func() (*orderUser, error) { return u.retried(ctx, id) })
	outcome := "ok"
	if err != nil && !errors.Is(err, errAbsent) {
		outcome = "failed"
	}
	u.seen.calls.WithLabelValues("user", outcome).Observe(time.Since(started).Seconds())
	return found, err
}

func (u *users) retried(ctx context.Context, id string) (*orderUser, error) {
	for attempt := 0; ; attempt++ {
		found, err := u.attempt(ctx, id)
		if !errors.As(err, &transient{}) || attempt == mostRetries {
			return found, err
		}
		wait := backoffBase + rand.N(min(backoffBase<<attempt, backoffCap))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (u *users) attempt(ctx context.Context, id string) (*orderUser, error) {
	started := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/users/"+url.PathEscape(id), nil)
	if err != nil {
		return nil, err
	}
	if current, ok := ctx.Value(contextKey{}).(span); ok {
		request.Header.Set("traceparent", "00-"+current.trace+"-"+newID(8)+"-"+current.flags)
	}
	if deadline, ok := ctx.Deadline(); ok {
		request.Header.Set("x-request-timeout-ms", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	}
	response, err := u.client.Do(request)
	if err != nil {
		u.seen.attempts.WithLabelValues("user", http.MethodGet, "error").Observe(time.Since(started).Seconds())
		return nil, transient{err}
	}
	defer response.Body.Close()
	u.seen.attempts.WithLabelValues("user", http.MethodGet, strconv.Itoa(response.StatusCode)).Observe(time.Since(started).Seconds())
	switch response.StatusCode {
	case http.StatusOK:
		found := &orderUser{}
		return found, json.NewDecoder(response.Body).Decode(found)
	case http.StatusNotFound:
		return nil, errAbsent
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, transient{fmt.Errorf("user answered %d", response.StatusCode)}
	}
	return nil, fmt.Errorf("user answered %d", response.StatusCode)
}
