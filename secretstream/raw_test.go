package secretstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/noise"
)

// A script is a raw stream in the hands of a test: what is to be read is put
// in, what was written is taken out, write by write.
type script struct {
	mu       sync.Mutex
	changed  sync.Cond
	toRead   [][]byte // one element a Read at most
	readEnd  error    // after toRead; nil waits
	writes   [][]byte
	writeCut int // if not negative: the deadline strikes after so many bytes
	ended    bool
	closed   bool
	destroy  error

	messages [][]byte // datagrams to be read
	sent     [][]byte // datagrams sent
}

func newScript() *script {
	s := &script{writeCut: -1}
	s.changed.L = &s.mu
	return s
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.toRead) == 0 && s.readEnd == nil && !s.closed {
		s.changed.Wait()
	}
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case len(s.toRead) == 0:
		err := s.readEnd
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.readEnd = nil
		}
		return 0, err
	}
	n := copy(p, s.toRead[0])
	if s.toRead[0] = s.toRead[0][n:]; len(s.toRead[0]) == 0 {
		s.toRead = s.toRead[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	if s.writeCut >= 0 && s.writeCut < len(p) {
		p = p[:s.writeCut]
		s.writeCut = -1
		s.writes = append(s.writes, bytes.Clone(p))
		return len(p), os.ErrDeadlineExceeded
	}
	s.writes = append(s.writes, bytes.Clone(p))
	return len(p), nil
}

func (s *script) put(chunks ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toRead = append(s.toRead, chunks...)
	s.changed.Broadcast()
}

func (s *script) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readEnd = err
	s.changed.Broadcast()
}

// written returns and forgets what was written.
func (s *script) written() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := bytes.Join(s.writes, nil)
	s.writes = nil
	return b
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	return nil
}

func (s *script) Destroy(err error) {
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.destroy = err
}

func (s *script) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

func (s *script) SendMessage(p []byte) error {
	s.sent = append(s.sent, bytes.Clone(p))
	return nil
}

func (s *script) ReadMessage(p []byte) (int, error) {
	if len(s.messages) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.messages[0])
	s.messages = s.messages[1:]
	return n, nil
}

func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// tcp returns both ends of a TCP connection.
func tcp(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// shaken runs a handshake over two raw streams.
func shaken(t testing.TB, a, b net.Conn, ca, cb Config) (client, server *Conn) {
	t.Helper()
	var wg sync.WaitGroup
	var err1, err2 error
	wg.Go(func() { client, err1 = Client(context.Background(), a, ca) })
	wg.Go(func() { server, err2 = Server(context.Background(), b, cb) })
	wg.Wait()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// results makes up the outcome of a handshake, for both sides.
func results() (initiator, responder noise.Result) {
	a, b := noise.KeyPairFromSeed([32]byte{1}), noise.KeyPairFromSeed([32]byte{2})
	initiator = noise.Result{Initiator: true, Tx: [32]byte{3}, Rx: [32]byte{4}, Secret: [32]byte{6}, Hash: [64]byte{5}, PublicKey: a.Public, RemotePublicKey: b.Public}
	responder = noise.Result{Tx: [32]byte{4}, Rx: [32]byte{3}, Secret: [32]byte{6}, Hash: [64]byte{5}, PublicKey: b.Public, RemotePublicKey: a.Public}
	return initiator, responder
}

// scripted returns both ends of a stream whose raw streams are scripts; what
// one writes is not given to the other.
func scripted(t testing.TB, cfg Config) (a, b *Conn, rawA, rawB *script) {
	t.Helper()
	i, r := results()
	rawA, rawB = newScript(), newScript()
	a, err := New(rawA, i, cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err = New(rawB, r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b, rawA, rawB
}
