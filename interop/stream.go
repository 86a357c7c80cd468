package interop

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Hex is a byte string that travels as hex digits; null is nil.
type Hex []byte

// MarshalJSON writes the digits.
func (h Hex) MarshalJSON() ([]byte, error) {
	if h == nil {
		return []byte("null"), nil
	}
	return json.Marshal(hex.EncodeToString(h))
}

// UnmarshalJSON reads the digits.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		*h = nil
		return err
	}
	d, err := hex.DecodeString(*s)
	*h = d
	return err
}

func (h Hex) String() string { return hex.EncodeToString(h) }

// A Node is a node as hyperdht.js and dhtrpc.js describe it.
type Node struct {
	Node         string `json:"node"` // handle
	Host         string `json:"host"` // where it is bound
	Port         uint16 `json:"port"`
	ID           Hex    `json:"id"` // nil while ephemeral
	PublicHost   string `json:"publicHost"`
	PublicPort   uint16 `json:"publicPort"`
	Ephemeral    bool   `json:"ephemeral"`
	Firewalled   bool   `json:"firewalled"`
	PublicKey    Hex    `json:"publicKey"` // hyperdht.js: the default key pair's
	Nodes        []Addr `json:"nodes"`     // the routing table; absent in a Testnet
	Bootstrapped bool   `json:"bootstrapped"`
}

// Addr is where the node is bound.
func (n Node) Addr() Addr { return Addr{Host: n.Host, Port: n.Port, ID: n.ID} }

// An Addr is a UDP address in a script's words.
type Addr struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
	ID   Hex    `json:"id,omitempty"`
}

func (a Addr) String() string { return fmt.Sprintf("%s:%d", a.Host, a.Port) }

// A Testnet is the result of "testnet" (hyperdht.js) and "network" (dhtrpc.js).
type Testnet struct {
	Bootstrap []string `json:"bootstrap"` // "127.0.0.1:port"
	Nodes     []Node   `json:"nodes"`
}

// A Server is the result of "listen".
type Server struct {
	Server    string `json:"server"` // handle
	PublicKey Hex    `json:"publicKey"`
	Address   struct {
		Host      string `json:"host"`
		Port      uint16 `json:"port"`
		PublicKey Hex    `json:"publicKey"`
	} `json:"address"`
}

// Conn describes an encrypted connection: "conn.info", "server.accept" and the
// event "connection".
type Conn struct {
	Stream          string `json:"stream"` // handle; empty in "conn.info"
	PublicKey       Hex    `json:"publicKey"`
	RemotePublicKey Hex    `json:"remotePublicKey"`
	HandshakeHash   Hex    `json:"handshakeHash"`
	IsInitiator     bool   `json:"isInitiator"`
	RemoteHost      string `json:"remoteHost"`
	RemotePort      uint16 `json:"remotePort"`
	LocalPort       uint16 `json:"localPort"`
	MTU             int    `json:"mtu"`
}

// A Stream is a stream of a script.
type Stream struct {
	Handle string
	Info   Conn // of a connection that was accepted or dialled; zero otherwise
	peer   *Peer
}

// A Report is what a stream has received and where it stands.
type Report struct {
	Bytes  int64  `json:"bytes"`
	SHA256 Hex    `json:"sha256"`
	Open   bool   `json:"open"`
	End    bool   `json:"end"` // the other side has ended and all was read
	Close  bool   `json:"close"`
	Error  string `json:"error"` // code or message
}

// Stream names a stream that a command has returned.
func (p *Peer) Stream(handle string) *Stream { return &Stream{Handle: handle, peer: p} }

// Accept returns the next connection of a server of hyperdht.js. It fails the
// test if none comes.
func (p *Peer) Accept(ctx context.Context, server string) *Stream {
	p.t.Helper()
	var c Conn
	if err := p.Call(ctx, "server.accept", Args{"server": server}, &c); err != nil {
		p.t.Fatal(err)
	}
	return &Stream{Handle: c.Stream, Info: c, peer: p}
}

// Dial runs "connect" of hyperdht.js and waits until the connection is open.
func (p *Peer) Dial(ctx context.Context, params Args) (*Stream, error) {
	var c Conn
	if err := p.Call(ctx, "connect", params, &c); err != nil {
		return nil, err
	}
	s := p.Stream(c.Stream)
	if _, err := s.Wait(ctx, "open"); err != nil {
		return nil, err
	}
	if err := p.Call(ctx, "conn.info", Args{"stream": s.Handle}, &s.Info); err != nil {
		return nil, err
	}
	return s, nil
}

// Write writes the bytes and waits until the stream takes more.
func (s *Stream) Write(ctx context.Context, b []byte) error {
	return s.peer.Call(ctx, "stream.write", Args{"stream": s.Handle, "data": Hex(b)}, nil)
}

// Read reads n bytes, fewer only at the end.
func (s *Stream) Read(ctx context.Context, n int) ([]byte, error) {
	var b Hex
	err := s.peer.Call(ctx, "stream.read", Args{"stream": s.Handle, "bytes": n}, &b)
	return b, err
}

// Send writes n bytes of the pattern of seed.
func (s *Stream) Send(ctx context.Context, seed string, n int64) error {
	return s.peer.Call(ctx, "stream.send", Args{"stream": s.Handle, "seed": seed, "bytes": n}, nil)
}

// Receive reads n bytes, or everything if n is negative, and reports on all
// that the stream has received so far.
func (s *Stream) Receive(ctx context.Context, n int64) (Report, error) {
	args := Args{"stream": s.Handle}
	if n >= 0 {
		args["bytes"] = n
	}
	var r Report
	err := s.peer.Call(ctx, "stream.receive", args, &r)
	return r, err
}

// Wait waits until the stream is in the state "open", "end" or "close"; a
// closed stream reaches the other two no more and ends the wait for them.
func (s *Stream) Wait(ctx context.Context, state string) (Report, error) {
	var r Report
	err := s.peer.Call(ctx, "stream.wait", Args{"stream": s.Handle, "what": state}, &r)
	return r, err
}

// End ends the stream's writing half.
func (s *Stream) End(ctx context.Context) error {
	return s.peer.Call(ctx, "stream.end", Args{"stream": s.Handle}, nil)
}

// Destroy destroys the stream.
func (s *Stream) Destroy(ctx context.Context) error {
	return s.peer.Call(ctx, "stream.destroy", Args{"stream": s.Handle}, nil)
}

// Pattern is an endless, reproducible source of bytes that the scripts have
// too: the keystream of AES-256 in counter mode under SHA-256 of the seed.
func Pattern(seed string) io.Reader {
	key := sha256.Sum256([]byte(seed))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: zeros{}}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// PatternSum is the SHA-256 of the first n bytes of the pattern of seed.
func PatternSum(seed string, n int64) Hex {
	h := sha256.New()
	if _, err := io.CopyN(h, Pattern(seed), n); err != nil {
		panic("BUG: " + err.Error())
	}
	return h.Sum(nil)
}
