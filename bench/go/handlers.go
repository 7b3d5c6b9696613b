package main

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gorilla/mux"
)

const mostBody = 1 << 20

var emailPattern = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)

type newUser struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	Age   int    `json:"age"`
}

type fault struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

func (u newUser) faults() []fault {
	var found []fault
	if length := utf8.RuneCountInString(u.Name); length < 1 || length > 100 {
		found = append(found, fault{"name", "expected 1 to 100 characters"})
	}
	if !emailPattern.MatchString(u.Email) {
		found = append(found, fault{"email", "expected an address"})
	}
	if u.Age < 0 || u.Age > 150 {
		found = append(found, fault{"age", "expected 0 to 150"})
	}
	return found
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func problem(w http.ResponseWriter, status int, detail string, faults ...fault) {
	w.Header().Set("content-type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"title": http.StatusText(status), "status": status, "detail": detail, "errors": faults,
	})
}

func (s *store) getUser(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	found, ok := s.users[id]
	if !ok {
		problem(w, http.StatusNotFound, "no user "+id)
		return
	}
	answer(w, http.StatusOK, found)
}

// getRemote waits for another part of the process, as for a database's driver.
func (s *store) getRemote(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	arrived := make(chan *user, 1)
	go func() {
		if found, ok := s.users[id]; ok {
			arrived <- &found
		} else {
			arrived <- nil
		}
	}()
	select {
	case found := <-arrived:
		if found == nil {
			problem(w, http.StatusNotFound, "no user "+id)
			return
		}
		answer(w, http.StatusOK, found)
	case <-r.Context().Done():
		problem(w, http.StatusGatewayTimeout, "the deadline passed")
	}
}

func (s *store) getPicture(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("content-type", "application/octet-stream")
	w.Header().Set("content-length", strconv.Itoa(len(s.picture)))
	_, _ = w.Write(s.picture)
}

func (s *store) postUser(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("content-type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		problem(w, http.StatusUnsupportedMediaType, "expected application/json")
		return
	}
	var given newUser
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostBody)).Decode(&given); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			problem(w, http.StatusUnprocessableEntity, "invalid", fault{kind.Field, err.Error()})
		} else {
			problem(w, http.StatusBadRequest, err.Error())
		}
		return
	}
	if faults := given.faults(); len(faults) > 0 {
		problem(w, http.StatusUnprocessableEntity, "invalid", faults...)
		return
	}
	answer(w, http.StatusCreated, user{"1000", given.Name, given.Email})
}

func (s *store) getOrder(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	quantity, ok := s.quantities[id]
	if !ok {
		problem(w, http.StatusNotFound, "no order "+id)
		return
	}
	found, err := s.peer.find(r.Context(), id)
	if err != nil && !errors.Is(err, errAbsent) {
		w.Header().Set("x-should-retry", "false")
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, order{id, quantity, found})
}
