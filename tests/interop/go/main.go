// Go's net/http as the peer of test_go.py: `server [KEY CERT]` or `client [OPTIONS] URL`.
package main

import (
	"log"
	"net/http"
	"os"
)

// Return the protocols to speak: HTTP/2, over TLS and with prior knowledge, and nothing else.
func http2Only() *http.Protocols {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &protocols
}

func main() {
	log.SetFlags(0)
	if os.Args[1] == "server" {
		serve(os.Args[2:])
	} else {
		request(os.Args[2:])
	}
}
