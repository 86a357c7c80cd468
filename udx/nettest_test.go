package udx

import (
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConn is the suite of x/net for anything that calls itself a net.Conn, over
// this machine's loopback and over a virtual network in real time.
func TestConn(t *testing.T) {
	t.Run("loopback", func(t *testing.T) {
		nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
			return connPair(udp.Default, udp.Default, netip.MustParseAddrPort("127.0.0.1:0"))
		})
	})
	t.Run("vnet", func(t *testing.T) {
		nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
			n := vnet.New(1)
			a, b := n.Host(), n.Host()
			a.SetLink(vnet.Link{Loss: 0.01})
			b.SetLink(vnet.Link{})
			x, y, stop, err := connPair(a, b, netip.AddrPort{})
			return x, y, func() { stop(); n.Close() }, err
		})
	})
}

// connPair connects two streams between two networks.
func connPair(na, nb udp.Network, at netip.AddrPort) (net.Conn, net.Conn, func(), error) {
	var streams [2]*Stream
	var conns [2]udp.Conn
	var muxes [2]*Mux
	var addrs [2]netip.AddrPort
	for i, n := range [2]udp.Network{na, nb} {
		c, err := n.Listen(at)
		if err != nil {
			return nil, nil, nil, err
		}
		conns[i], muxes[i], addrs[i] = c, NewMux(Config{}), c.LocalAddr()
		if h, ok := n.(*vnet.Host); ok {
			addrs[i] = netip.AddrPortFrom(h.Addr(), addrs[i].Port())
		}
		go udp.Serve(c, muxes[i])
		if streams[i], err = muxes[i].NewStream(StreamConfig{}); err != nil {
			return nil, nil, nil, err
		}
	}
	for i, s := range streams {
		if err := s.Connect(conns[i], streams[1-i].ID(), addrs[1-i], ConnectOptions{}); err != nil {
			return nil, nil, nil, err
		}
	}
	return streams[0], streams[1], func() {
		for i := range streams {
			muxes[i].Close()
			conns[i].Close()
		}
	}, nil
}
