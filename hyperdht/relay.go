package hyperdht

import (
	"context"
	"net"

	"github.com/warren-dht/warren/protomux"
	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/udx"
)

// A RelayServer is a blind relay: it carries the packets of peers that cannot
// reach each other, and sees nothing but ciphertext. Peers name its public key
// in DialConfig.RelayThrough or ListenConfig.RelayThrough.
type RelayServer struct {
	listener *Listener
	blind    *blind.Server
}

// ServeRelay starts a blind relay on the listener's key. The listener is the
// relay's from now on. quotas bound what the relay does; its NewStream is set
// here.
func (n *Node) ServeRelay(l *Listener, quotas blind.Config) *RelayServer {
	quotas.NewStream = func(cfg udx.StreamConfig) (*udx.Stream, error) { return n.mux.NewStream(cfg) }
	r := &RelayServer{listener: l, blind: blind.NewServer(quotas)}
	l.wg.Go(r.serve)
	return r
}

// PublicKey is the key that peers name.
func (r *RelayServer) PublicKey() PublicKey { return r.listener.PublicKey() }

// Stats are the relay's counters.
func (r *RelayServer) Stats() blind.Stats { return r.blind.Stats() }

// Close ends all pairs and the listener.
func (r *RelayServer) Close() error {
	r.blind.Close()
	return r.listener.Close()
}

// serve accepts clients until the listener is closed.
func (r *RelayServer) serve() {
	for {
		c, err := r.listener.AcceptConn(context.Background())
		if err != nil {
			return
		}
		r.listener.node.wg.Go(func() { r.client(c) })
	}
}

// client serves one client's connection.
func (r *RelayServer) client(c *Conn) {
	defer c.Close()
	c.SetMaxMessage(blind.MaxMessage)
	mux := protomux.New(c)
	key := c.RemotePublicKey()
	path := c.Path()
	session, err := r.blind.Accept(mux, key[:], path.Remote.Addr())
	if err != nil {
		return
	}
	r.listener.node.wg.Go(func() {
		for {
			var err error
			if path, err = c.NextPath(context.Background(), path); err != nil {
				return
			}
			session.Moved(c.link.candidate().conn, path.Remote)
		}
	})
	// A session that is over, as one that was idle too long, takes its
	// connection with it.
	r.listener.node.wg.Go(func() {
		select {
		case <-session.Done():
		case <-c.Done():
		}
		c.Close()
	})
	if err := mux.Run(); err != nil && err != net.ErrClosed {
		r.listener.node.cfg.Logger.Debug("hyperdht: relay client left", "key", key, "err", err)
	}
}
