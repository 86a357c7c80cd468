package hyperdht

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

// connected returns both ends of a connection, of which the first one has dialled.
func connected(t *testing.T, l *Listener, from *Node) (client, server net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client, err := from.Dial(ctx, l.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = l.AcceptConn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// blob is a megabyte, which takes many packets and several windows.
var blob = bytes.Repeat([]byte("warren! "), 1<<17)

// Protocols that know nothing of us run over a connection, whoever of its ends
// is the client.
func TestProtocols(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("over a network", func(t *testing.T) {
		boot := loopbackNetwork(t, 4)
		server, client := loopbackNode(t, Config{Bootstrap: boot}), loopbackNode(t, Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []struct {
			name string
			run  func(t *testing.T, client, server net.Conn)
		}{{"ssh", runSSH}, {"http", runHTTP}} {
			t.Run(p.name, func(t *testing.T) {
				dialled, accepted := connected(t, l, client)
				p.run(t, dialled, accepted)
			})
			t.Run(p.name+", called back", func(t *testing.T) {
				dialled, accepted := connected(t, l, client)
				p.run(t, accepted, dialled)
			})
		}
	})
}

// runSSH logs in with a key, sends a megabyte through a command and back, gets
// its exit status, and forwards a connection.
func runSSH(t *testing.T, c, s net.Conn) {
	hostKey, userKey := GenerateKeyPair(), GenerateKeyPair()
	host, err := ssh.NewSignerFromSigner(SignerOf(hostKey))
	if err != nil {
		t.Fatal(err)
	}
	user, err := ssh.NewSignerFromSigner(SignerOf(userKey))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serveSSH(s, host, user.PublicKey()) }()

	conn, chans, reqs, err := ssh.NewClientConn(c, "peer", &ssh.ClientConfig{
		User:            "alice",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(user)},
		HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(conn, chans, reqs)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	session.Stdin, session.Stdout = bytes.NewReader(blob), &out
	err = session.Run("cat")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 3 || !bytes.Equal(out.Bytes(), blob) {
		t.Errorf("%d bytes came back, %v", out.Len(), err)
	}
	tunnel, err := client.Dial("tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(tunnel, "through")
	tunnel.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(tunnel); err != nil || string(got) != "through" {
		t.Errorf("the tunnel: %q, %v", got, err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// serveSSH echoes everything, on sessions and tunnels alike, and ends commands
// with status 3.
func serveSSH(c net.Conn, host ssh.Signer, user ssh.PublicKey) error {
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), user.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(host)
	conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	go ssh.DiscardRequests(reqs)
	for offered := range chans {
		ch, reqs, err := offered.Accept()
		if err != nil {
			return err
		}
		command := offered.ChannelType() == "session"
		go func() {
			for r := range reqs {
				r.Reply(r.Type == "exec", nil)
			}
		}()
		go func() {
			defer ch.Close()
			io.Copy(ch, ch)
			if command {
				ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{3}))
			}
		}()
	}
	return nil
}

// runHTTP posts a megabyte, gets its hash, and gets a stream of chunks, over one
// connection that is kept alive.
func runHTTP(t *testing.T, c, s net.Conn) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		io.Copy(h, r.Body)
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	mux.HandleFunc("GET /chunks", func(w http.ResponseWriter, r *http.Request) {
		for b := blob; len(b) > 0; b = b[1<<16:] {
			w.Write(b[:1<<16])
			w.(http.Flusher).Flush()
		}
	})
	server := &http.Server{Handler: mux}
	one := &oneListener{conn: make(chan net.Conn, 1), addr: s.LocalAddr()}
	one.conn <- s
	done := make(chan error, 1)
	go func() { done <- server.Serve(one) }()

	dials := 0
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, errors.New("the connection was not kept alive")
		}
		return c, nil
	}}
	client := http.Client{Transport: transport}
	want := map[string]string{"/sum": fmt.Sprintf("%x", sha256.Sum256(blob)), "/chunks": string(blob)}
	for range 2 {
		for path, want := range want {
			var resp *http.Response
			var err error
			if path == "/sum" {
				resp, err = client.Post("http://peer"+path, "application/octet-stream", bytes.NewReader(blob))
			} else {
				resp, err = client.Get("http://peer" + path)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != want {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
		}
	}
	transport.CloseIdleConnections()
	server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// A oneListener accepts the connections that it is given.
type oneListener struct {
	conn chan net.Conn
	addr net.Addr
}

func (l *oneListener) Accept() (net.Conn, error) {
	c, ok := <-l.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *oneListener) Close() error   { close(l.conn); return nil }
func (l *oneListener) Addr() net.Addr { return l.addr }
