// The two measured services as a good Go team builds them: net/http, gorilla/mux, client_golang, zerolog, gobreaker.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference PORT   (USER_URL names the user service)")
		os.Exit(2)
	}
	seen := newObserver("reference", "127.0.0.1-"+os.Args[1])
	store := newStore(newUsers(os.Getenv("USER_URL"), seen))

	router := mux.NewRouter()
	router.Use(seen.observed)
	router.Handle("/metrics", promhttp.Handler()).Methods(http.MethodGet)
	router.HandleFunc("/users/{id}", store.getUser).Methods(http.MethodGet)
	router.HandleFunc("/remote/{id}", store.getRemote).Methods(http.MethodGet)
	router.HandleFunc("/picture", store.getPicture).Methods(http.MethodGet)
	router.HandleFunc("/users", store.postUser).Methods(http.MethodPost)
	router.HandleFunc("/orders/{id}", store.getOrder).Methods(http.MethodGet)

	server := &http.Server{
		Addr: "127.0.0.1:" + os.Args[1], Handler: router,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

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

type store struct {
	users      map[string]user
	quantities map[string]int
	picture    []byte
	peer       *users
}

func newStore(peer *users) *store {
	s := &store{users: map[string]user{}, quantities: map[string]int{}, picture: make([]byte, 100<<10), peer: peer}
	for number := 0; number < 1000; number++ {
		id := strconv.Itoa(number)
		s.users[id] = user{id, "user " + id, "u" + id + "@a.de"}
		s.quantities[id] = number
	}
	for at := range s.picture {
		s.picture[at] = 'x'
	}
	return s
}
