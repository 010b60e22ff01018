// Go's own HTTP/2: go_server PORT CONCURRENCY [CERT KEY]. Needs Go 1.24.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
)

var small = []byte("Hello, HTTP/2!\n")
var chunk = make([]byte, 65536)

func answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		received, _ := io.Copy(io.Discard, r.Body)
		body := strconv.FormatInt(received, 10)
		w.Header().Set("content-length", strconv.Itoa(len(body)))
		fmt.Fprint(w, body)
	case r.URL.Path == "/download":
		left, _ := strconv.Atoi(r.URL.Query().Get("size"))
		w.Header().Set("content-length", strconv.Itoa(left))
		for left > 0 {
			written, err := w.Write(chunk[:min(left, len(chunk))])
			if err != nil {
				return
			}
			left -= written
		}
	default:
		w.Header().Set("content-type", "text/plain")
		w.Header().Set("content-length", strconv.Itoa(len(small)))
		w.Write(small)
	}
}

func main() {
	concurrency, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Addr:      "127.0.0.1:" + os.Args[1],
		Handler:   http.HandlerFunc(answer),
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: concurrency},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	if len(os.Args) > 3 {
		log.Fatal(server.ListenAndServeTLS(os.Args[3], os.Args[4]))
	}
	log.Fatal(server.ListenAndServe())
}
