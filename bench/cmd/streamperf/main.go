// Command streamperf is the ceiling of the connection workloads: plain TCP, TLS
// 1.3 over TCP and quic-go in the roles of W4 to W6 and W10.
//
//	streamperf -role server -proto tls
//	streamperf -role client -proto tls -to 127.0.0.1:1234 -pids 99 -test bulk
//
// With quic every dial is a new connection with one stream; with -mux they are
// streams of one connection.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"maps"
	"math/big"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/warren-dht/warren/bench/internal/duo"
	"github.com/warren-dht/warren/bench/internal/measure"
)

func main() {
	role := flag.String("role", "server", "server or client")
	proto := flag.String("proto", "tls", "tcp, tls or quic")
	to := flag.String("to", "", "server's address")
	host := flag.String("host", "127.0.0.1", "address to listen on (tcp, tls)")
	mux := flag.Bool("mux", false, "quic: streams of one connection")
	var o duo.Options
	settle := o.Flags(flag.CommandLine)
	flag.Parse()
	settle()
	if *role == "server" {
		measure.Serve(map[string]any{"addr": serve(*proto, *host).String()})
	}
	switch *proto {
	case "tcp":
		o.Dial = func() (duo.Conn, error) { return net.Dial("tcp4", *to) }
	case "tls":
		config := tlsConfig(false)
		o.Dial = func() (duo.Conn, error) { return tls.Dial("tcp4", *to, config) }
	case "quic":
		o.Dial = quicDialer(*to, *mux)
	default:
		measure.Fatal("no protocol %q", *proto)
	}
	r := map[string]any{"w": "streamperf", "test": o.Test, "impl": *proto, "mux": *mux}
	maps.Copy(r, duo.Run(o))
	measure.Out(r)
}

// serve starts the server and returns its address.
func serve(proto, host string) net.Addr {
	if proto == "quic" {
		l, err := quic.ListenAddr("127.0.0.1:0", tlsConfig(true), quicConfig)
		measure.Check(err)
		go acceptQUIC(l)
		return l.Addr()
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	measure.Check(err)
	if proto == "tls" {
		l = tls.NewListener(l, tlsConfig(true))
	}
	go func() {
		for {
			c, err := l.Accept()
			measure.Check(err)
			go duo.Handle(c)
		}
	}()
	return l.Addr()
}

// tlsConfig has both sides show a certificate, as both sides of Noise IK show
// a key.
func tlsConfig(server bool) *tls.Config {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	measure.Check(err)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "bench"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	measure.Check(err)
	c := &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		InsecureSkipVerify:     true, // both ends are this program, on loopback
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"bench"},
		SessionTicketsDisabled: true,
	}
	if server {
		c.ClientAuth = tls.RequireAnyClientCert
	}
	return c
}

var quicConfig = &quic.Config{MaxIncomingStreams: 10000, KeepAlivePeriod: 5 * time.Second}

// A quicConn is a stream, with its connection if it has one of its own.
type quicConn struct {
	*quic.Stream
	own *quic.Conn
}

func (q quicConn) Close() error {
	err := q.Stream.Close()
	if q.own != nil {
		return q.own.CloseWithError(0, "")
	}
	return err
}

func acceptQUIC(l *quic.Listener) {
	ctx := context.Background()
	for {
		c, err := l.Accept(ctx)
		measure.Check(err)
		go func() {
			for {
				s, err := c.AcceptStream(ctx)
				if err != nil {
					return
				}
				go duo.Handle(quicConn{Stream: s})
			}
		}()
	}
}

// quicDialer dials from one socket.
func quicDialer(to string, mux bool) func() (duo.Conn, error) {
	ctx := context.Background()
	addr, err := net.ResolveUDPAddr("udp4", to)
	measure.Check(err)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	measure.Check(err)
	transport := &quic.Transport{Conn: socket}
	config := tlsConfig(false)
	var shared *quic.Conn
	return func() (duo.Conn, error) {
		c := shared
		if c == nil {
			var err error
			if c, err = transport.Dial(ctx, addr, config, quicConfig); err != nil {
				return nil, err
			}
		}
		s, err := c.OpenStreamSync(ctx)
		if err != nil {
			return nil, err
		}
		if mux {
			shared = c
			return quicConn{Stream: s}, nil
		}
		return quicConn{s, c}, nil
	}
}
