package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What to do, from the command line.
var (
	authority = flag.String("ca", "", "the file of the authority to trust")
	count     = flag.Int("n", 1, "how many requests")
	atOnce    = flag.Int("at-once", 1, "how many of them at a time")
	upload    = flag.String("upload", "", "the file to send; the method is POST then")
	expect    = flag.Bool("expect", false, "ask before sending it (Expect: 100-continue)")
	cancel    = flag.Bool("cancel", false, "cancel each request when its response has begun")
	first     = flag.String("first", "", "an address to fetch before, so that there is a connection")
	ping      = flag.Duration("ping", 0, "silence after which the peer is sent a PING")
)

// What came of one request.
type outcome struct {
	Proto      string            `json:"proto"`
	Status     int               `json:"status"`
	Interim    []int             `json:"interim"`
	Hint       string            `json:"hint"`
	Length     int64             `json:"length"`
	SHA256     string            `json:"sha256"`
	Trailers   map[string]string `json:"trailers"`
	Error      string            `json:"error"`
	Code       int64             `json:"code"`       // of RST_STREAM; -1: none
	Sent       int64             `json:"sent"`       // bytes of the body that Go has taken
	Connection string            `json:"connection"` // its local address
}

// StreamError has the name and fields of golang.org/x/net/http2's: errors.As fills it in with those
// of the error in net/http, which has no public name.
type StreamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e StreamError) Error() string { return "stream error" }

// A body that knows how much of it was taken.
type counted struct {
	io.Reader
	taken *int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	atomic.AddInt64(c.taken, int64(n))
	return n, err
}

func newClient() *http.Client {
	pool := x509.NewCertPool()
	if *authority != "" {
		pem, err := os.ReadFile(*authority)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			log.Fatal("no authority in ", *authority)
		}
	}
	return &http.Client{Transport: &http.Transport{
		Protocols:             http2Only(),
		TLSClientConfig:       &tls.Config{RootCAs: pool},
		ExpectContinueTimeout: 10 * time.Second,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: *ping,
			PingTimeout:     5 * time.Second,
		},
	}}
}

// Make the request; what it says of itself on the way goes into the outcome.
func newRequest(url string, body []byte, got *outcome) (*http.Request, context.CancelFunc) {
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			got.Connection = info.Conn.LocalAddr().String()
		},
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			got.Interim = append(got.Interim, code)
			got.Hint = header.Get("link")
			return nil
		},
	}
	limit, stop := context.WithCancel(httptrace.WithClientTrace(context.Background(), trace))
	request, err := http.NewRequestWithContext(limit, http.MethodGet, url, nil)
	if err != nil {
		log.Fatal(err)
	}
	if body != nil {
		request.Method = http.MethodPost
		request.Trailer = http.Header{"Checksum": {"abc"}}
		// Go sends a refused request again where it can have the body again.
		request.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(counted{bytes.NewReader(body), &got.Sent}), nil
		}
		request.Body, _ = request.GetBody()
	}
	if *expect {
		request.Header.Set("expect", "100-continue")
	}
	return request, stop
}

func fetch(client *http.Client, url string, body []byte) outcome {
	got := outcome{Code: -1, Interim: []int{}, Trailers: map[string]string{}}
	request, stop := newRequest(url, body, &got)
	defer stop()
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		got.Proto, got.Status = response.Proto, response.StatusCode
		if *cancel {
			stop()
		}
		hash := sha256.New()
		got.Length, err = io.Copy(hash, response.Body)
		got.SHA256 = hex.EncodeToString(hash.Sum(nil))
		for name := range response.Trailer {
			got.Trailers[name] = response.Trailer.Get(name)
		}
	}
	if err != nil {
		got.Error = err.Error()
		var reset StreamError
		if errors.As(err, &reset) {
			got.Code = int64(reset.Code)
		}
	}
	return got
}

func request(arguments []string) {
	flag.CommandLine.Parse(arguments)
	url := flag.Arg(0)
	var body []byte
	if *upload != "" {
		var err error
		if body, err = os.ReadFile(*upload); err != nil {
			log.Fatal(err)
		}
	}
	client := newClient()
	if *first != "" {
		if got := fetch(client, *first, nil); got.Error != "" {
			log.Fatal(got.Error)
		}
	}
	outcomes := make([]outcome, *count)
	slots := make(chan struct{}, *atOnce)
	var all sync.WaitGroup
	for n := range outcomes {
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer all.Done()
			outcomes[n] = fetch(client, url, body)
			<-slots
		}()
	}
	all.Wait()
	client.CloseIdleConnections()
	json.NewEncoder(os.Stdout).Encode(outcomes)
}
