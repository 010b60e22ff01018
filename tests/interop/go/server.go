package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const greeting = "hello, this is go\n"

// Requests that wait for each other.
var (
	mutex   sync.Mutex
	waiting []chan struct{}
)

// Wait until as many requests are here as the query says.
func together(w http.ResponseWriter, r *http.Request) {
	count, _ := strconv.Atoi(r.URL.RawQuery)
	arrived := make(chan struct{})
	mutex.Lock()
	waiting = append(waiting, arrived)
	if len(waiting) == count {
		for _, other := range waiting {
			close(other)
		}
		waiting = nil
	}
	mutex.Unlock()
	<-arrived
	fmt.Fprint(w, greeting)
}

// Send the body back while it is coming, and then its trailers, with its length as one more.
func echo(w http.ResponseWriter, r *http.Request) {
	response := http.NewResponseController(w)
	response.Flush()
	length := 0
	buffer := make([]byte, 65536)
	for {
		n, err := r.Body.Read(buffer)
		w.Write(buffer[:n])
		response.Flush()
		length += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
	}
	for name, values := range r.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
	w.Header().Set(http.TrailerPrefix+"length", strconv.Itoa(length))
}

// Read the body, which makes Go send 100 (Continue) first, and say how long it was.
func measure(w http.ResponseWriter, r *http.Request) {
	length, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, length)
}

// Begin the response, then fail, which makes Go reset the stream.
func fail(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery == "late" {
		fmt.Fprint(w, greeting)
		http.NewResponseController(w).Flush()
	}
	panic(http.ErrAbortHandler)
}

// Begin the response, and wait until the client has gone.
func hold(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
	fmt.Println("cancelled")
}

func hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("link")
	fmt.Fprint(w, greeting)
}

func greet(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, greeting) }

// Refuse the body without reading it; Go sends no 100 (Continue) then.
func refuse(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusRequestEntityTooLarge)
}

func serve(files []string) {
	http.HandleFunc("GET /", greet)
	http.HandleFunc("POST /", echo)
	http.HandleFunc("POST /count", measure)
	http.HandleFunc("GET /together", together)
	http.HandleFunc("GET /fail", fail)
	http.HandleFunc("GET /hold", hold)
	http.HandleFunc("GET /hints", hints)
	http.HandleFunc("POST /refuse", refuse)
	server := &http.Server{
		Protocols: http2Only(),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			SendPingTimeout:      200 * time.Millisecond,
			PingTimeout:          5 * time.Second,
		},
	}
	ended := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		<-signals
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		fmt.Println("shutdown:", server.Shutdown(limit))
		close(ended)
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on port", listener.Addr().(*net.TCPAddr).Port)
	if len(files) == 2 {
		err = server.ServeTLS(listener, files[1], files[0])
	} else {
		err = server.Serve(listener)
	}
	if err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
