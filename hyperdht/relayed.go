package hyperdht

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/udp"
)

const relayPairTime = 15 * time.Second

type relayChoice struct {
	key       PublicKey
	token     [32]byte
	initiator bool
}

func pickRelay(keys []PublicKey) (c relayChoice) {
	if len(keys) > 0 {
		c.key = keys[mrand.IntN(len(keys))]
		rand.Read(c.token[:])
	}
	return c
}

type relayLeg struct{}

func (r *relayLeg) close()                                          {}
func (r *relayLeg) carries(conn udp.Conn, from netip.AddrPort) bool { return false }
func (l *link) upgrade(p Path, conn udp.Conn) bool                  { return false }
func (d *dial) tryRelay(ctx context.Context, c relayChoice) error   { return ErrRelayAborted }
func (h *serverHandshake) pair(c relayChoice)                       {}
