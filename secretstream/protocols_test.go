package secretstream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
	"github.com/warren-dht/warren/vnet"
)

// An internet is two hosts, a poor line between them, and a listener of
// encrypted UDX streams on the second.
type internet struct {
	*testing.T
	conn     [2]udp.Conn
	addr     [2]netip.AddrPort
	mux      [2]*udx.Mux
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// onInternet runs f in virtual time.
func onInternet(t *testing.T, f func(in *internet)) {
	synctest.Test(t, func(t *testing.T) {
		n := vnet.New(1)
		in := &internet{T: t, accepted: make(chan net.Conn), closed: make(chan struct{})}
		for i := range in.conn {
			host := n.Host()
			host.SetLink(vnet.Link{Latency: 10 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.01})
			conn, err := host.Listen(netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			in.conn[i], in.mux[i] = conn, udx.NewMux(udx.Config{})
			in.addr[i] = netip.AddrPortFrom(host.Addr(), conn.LocalAddr().Port())
			go udp.Serve(conn, in.mux[i])
		}
		defer func() {
			in.Close()
			for _, m := range in.mux {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				m.Drain(ctx)
				cancel()
				m.Close()
			}
			n.Close()
			synctest.Wait()
		}()
		f(in)
	})
}

// dial opens an encrypted stream to the listener. The streams' ids need no
// telling here.
func (in *internet) dial(ctx context.Context) (net.Conn, error) {
	var s [2]*udx.Stream
	for i := range s {
		var err error
		if s[i], err = in.mux[i].NewStream(udx.StreamConfig{}); err != nil {
			return nil, err
		}
	}
	for i := range s {
		if err := s[i].Connect(in.conn[i], s[1-i].ID(), in.addr[1-i], udx.ConnectOptions{}); err != nil {
			return nil, err
		}
	}
	go func() {
		c, err := secretstream.Server(context.Background(), s[1], secretstream.Config{})
		if err != nil {
			return // the client gave up, or has more to say about it
		}
		select {
		case in.accepted <- c:
		case <-in.closed:
			c.Close()
		}
	}()
	return secretstream.Client(ctx, s[0], secretstream.Config{})
}

// The rest makes it a net.Listener.

func (in *internet) Accept() (net.Conn, error) {
	select {
	case c := <-in.accepted:
		return c, nil
	case <-in.closed:
		return nil, net.ErrClosed
	}
}

func (in *internet) Close() error {
	in.once.Do(func() { close(in.closed) })
	return nil
}

func (in *internet) Addr() net.Addr { return net.UDPAddrFromAddrPort(in.addr[1]) }

// TestHTTP: net/http runs over an encrypted stream unchanged: large bodies both
// ways, connections used again, several at once, a request that is given up.
func TestHTTP(t *testing.T) {
	onInternet(t, func(in *internet) {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Write(body)
		})
		gaveUp := make(chan struct{})
		mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(gaveUp)
		})
		server := &http.Server{Handler: mux}
		go server.Serve(in)
		defer server.Close()
		dials := 0
		var mu sync.Mutex
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			mu.Lock()
			dials++
			mu.Unlock()
			return in.dial(ctx)
		}}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}

		echo := func(size int) error {
			body := make([]byte, size)
			rand.Read(body)
			r, err := client.Post("http://peer/echo", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				return err
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			if err == nil && !bytes.Equal(got, body) {
				err = fmt.Errorf("%d bytes came back of %d", len(got), len(body))
			}
			return err
		}
		for _, size := range []int{0, 1, 70_000, 1 << 20} {
			if err := echo(size); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		if dials != 1 {
			t.Errorf("%d connections for requests in a row", dials)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := echo(100_000); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()

		ctx, cancel := context.WithCancel(context.Background())
		slow, err := http.NewRequestWithContext(ctx, "GET", "http://peer/slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.Do(slow)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-gaveUp // the end of the connection has told the server
		r.Body.Close()
	})
}

// TestSSH: so does x/crypto/ssh: a command with input and output, and an exit
// status.
func TestSSH(t *testing.T) {
	onInternet(t, func(in *internet) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		go serveSSH(t, in, signer)

		raw, err := in.dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		conn, channels, requests, err := ssh.NewClientConn(raw, "peer", &ssh.ClientConfig{
			User: "warren", HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()), Timeout: 10 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		client := ssh.NewClient(conn, channels, requests)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 1<<20)
		rand.Read(body)
		session.Stdin = bytes.NewReader(body)
		got, err := session.Output("sum")
		if want := sha256.Sum256(body); !bytes.Equal(got, want[:]) {
			t.Errorf("answered %x, want %x", got, want)
		}
		if exit, ok := err.(*ssh.ExitError); !ok || exit.ExitStatus() != 3 {
			t.Errorf("ended with %v, want status 3", err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// serveSSH serves one connection; every command answers with the hash of its
// input and status 3.
func serveSSH(t *testing.T, in *internet, signer ssh.Signer) {
	raw, err := in.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, asked, err := offered.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			for r := range asked {
				r.Reply(r.Type == "exec", nil)
				if r.Type != "exec" {
					continue
				}
				sum := sha256.New()
				io.Copy(sum, channel)
				channel.Write(sum.Sum(nil))
				channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{3}))
				channel.Close()
			}
		}()
	}
}
