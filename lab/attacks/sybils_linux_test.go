package attacks

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// sybilHost is the one address that all sybils have.
var sybilHost = netip.AddrFrom4([4]byte{8, 0, 0, 1})

// Sybils are nodes of one host: each port is a node with the id that belongs to
// it. They name one another as the closer nodes, give tokens, take records and
// announcements, and forget them.
type sybils struct {
	all    []*sybil
	silent atomic.Bool // they answer nothing any more
}

type sybil struct {
	*socket
	id dhtrpc.ID
}

func newSybils(t *testing.T, ports int) *sybils {
	s := &sybils{}
	for p := range ports {
		at := netip.AddrPortFrom(sybilHost, uint16(2000+p))
		x := &sybil{id: dhtrpc.IDOf(at)}
		ready := make(chan struct{})
		x.socket = bind(t, at.String(), func(b []byte, from netip.AddrPort) {
			<-ready
			s.answer(x, b, from)
		})
		close(ready)
		s.all = append(s.all, x)
	}
	return s
}

// closest are the 20 sybils nearest to a target.
func (s *sybils) closest(target *[32]byte) (at []netip.AddrPort) {
	near := slices.Clone(s.all)
	distance := func(x *sybil) (d [8]byte) {
		for i := range d {
			d[i] = x.id[i] ^ target[i]
		}
		return d
	}
	slices.SortFunc(near, func(a, b *sybil) int {
		da, db := distance(a), distance(b)
		return slices.Compare(da[:], db[:])
	})
	for _, x := range near[:min(20, len(near))] {
		at = append(at, x.at)
	}
	return at
}

func (s *sybils) answer(x *sybil, b []byte, from netip.AddrPort) {
	if s.silent.Load() {
		return
	}
	r := compact.NewReader(b)
	if r.Uint8() != 3 {
		return
	}
	flags := r.Uint()
	tid := r.Uint16()
	r.Addr()
	for _, flag := range []uint64{1, 2} { // id, token
		if flags&flag != 0 {
			r.Fixed32()
		}
	}
	r.Uint()
	var target *[32]byte
	if flags&8 != 0 {
		target = r.Fixed32()
	}
	if r.Err() != nil {
		return
	}
	out := []byte{0x13, 1 | 2, byte(tid), byte(tid >> 8)}
	out = compact.AppendAddr(out, from)
	out = append(out, x.id[:]...)
	out = append(out, make([]byte, 32)...) // a token
	if target != nil {
		out[1] |= 4
		out = compact.AppendAddrs(out, s.closest(target))
	}
	x.send(from, out)
}

// enter makes the sybils known to all nodes of the network, in rounds.
func (s *sybils) enter(w *network, rounds int) {
	for range rounds {
		for _, n := range w.nodes {
			to := n.RPC().PublicAddr()
			for i, x := range s.all {
				m := compact.AppendAddr([]byte{3, 1 | 4, byte(i), byte(i >> 8)}, to) // a ping with an id
				x.send(to, append(append(m, x.id[:]...), 0))
				if i%50 == 49 {
					time.Sleep(time.Millisecond)
				}
			}
		}
	}
	time.Sleep(time.Second)
}

// inTables counts the sybils in the routing tables of the network.
func (s *sybils) inTables(w *network) (sybils, all int) {
	for _, n := range w.nodes {
		for _, x := range n.RPC().Nodes() {
			all++
			if x.Addr.Addr() == sybilHost {
				sybils++
			}
		}
	}
	return sybils, all
}

// Lookups are what a number of look-ups found.
type lookups struct {
	sybils, closest int // of the nodes found
	owned           int // look-ups that found sybils only
	took            []time.Duration
}

// find looks up random targets.
func find(t *testing.T, n *hyperdht.Node, times int) (l lookups) {
	for range times {
		var target dhtrpc.ID
		rand.Read(target[:])
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		begun := time.Now()
		q := n.RPC().FindNode(target, dhtrpc.QueryOptions{})
		q.Run(ctx)
		cancel()
		l.took = append(l.took, time.Since(begun))
		mine := 0
		for _, x := range q.Closest() {
			l.closest++
			if x.Addr.Addr() == sybilHost {
				mine++
			}
		}
		l.sybils += mine
		if mine > 0 && mine == len(q.Closest()) {
			l.owned++
		}
	}
	slices.Sort(l.took)
	return l
}
