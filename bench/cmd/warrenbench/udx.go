package main

import (
	"flag"
	"maps"
	"net/netip"

	"github.com/warren-dht/warren/bench/internal/duo"
	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// clientID is the stream id of the client's end of stream i.
const clientID = 1000

// udxSocket is a mux on one socket of a host's address.
func udxSocket(host string) (*udx.Mux, udp.Conn) {
	addr, err := netip.ParseAddr(host)
	measure.Check(err)
	conn, err := udp.Default.Listen(netip.AddrPortFrom(addr, 0))
	measure.Check(err)
	mux := udx.NewMux(udx.Config{})
	go udp.Serve(conn, mux)
	return mux, conn
}

// udxServer: a socket with streams of ids 1 to conns, each of which learns its
// peer from its first packet.
func udxServer(flags *flag.FlagSet, args []string) {
	conns := flags.Int("conns", 1, "streams")
	host := flags.String("host", "127.0.0.1", "address to bind")
	flags.Parse(args)
	mux, conn := udxSocket(*host)
	for i := range *conns {
		id := uint32(i + 1)
		s, err := mux.NewStream(udx.StreamConfig{ID: id, Accept: func(s *udx.Stream, c udp.Conn, from netip.AddrPort) bool {
			return s.Connect(c, clientID+id, from, udx.ConnectOptions{}) == nil
		}})
		measure.Check(err)
		go duo.Handle(s)
	}
	measure.Serve(map[string]any{"host": *host, "port": conn.LocalAddr().Port()})
}

// udxClient: streams to an udxServer, with the tests "bulk", "flow" and "rtt".
func udxClient(flags *flag.FlagSet, args []string) {
	to := flags.String("to", "", "host:port of the server")
	host := flags.String("host", "127.0.0.1", "address to bind")
	var o duo.Options
	settle := o.Flags(flags)
	flags.Parse(args)
	settle()
	server, err := netip.ParseAddrPort(*to)
	measure.Check(err)
	mux, conn := udxSocket(*host)
	id := uint32(0)
	o.Dial = func() (duo.Conn, error) {
		id++
		s, err := mux.NewStream(udx.StreamConfig{ID: clientID + id})
		if err != nil {
			return nil, err
		}
		return s, s.Connect(conn, id, server, udx.ConnectOptions{})
	}
	o.Extra = func(c duo.Conn) map[string]any { return streamFigures(c.(*udx.Stream).Stats()) }
	r := map[string]any{"w": "udx-client", "test": o.Test, "impl": "warren"}
	maps.Copy(r, duo.Run(o))
	measure.Out(r)
}

// streamFigures are what the JavaScript side tells of its first stream.
func streamFigures(s udx.Stats) map[string]any {
	return map[string]any{
		"mtu": s.MTU, "cwnd": s.Window, "rtt_ms": float64(s.RTT.Microseconds()) / 1e3,
		"retransmits": s.Retransmits, "packets": s.PacketsSent, "rx_packets": s.PacketsReceived,
	}
}
