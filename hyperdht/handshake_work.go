package hyperdht

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// keyExchanges bounds the work of incoming handshakes that is done at once: each
// message costs two multiplications on a curve. Those that wait are as many as
// there are slots for handshakes. Safe for concurrent use.
type keyExchanges struct{ running *semaphore.Weighted }

// newKeyExchanges lets half of the processors work for strangers.
func newKeyExchanges() keyExchanges {
	return keyExchanges{semaphore.NewWeighted(int64(max(runtime.GOMAXPROCS(0)/2, 1)))}
}

// run calls f when it is its turn. If ctx ends before, nothing is computed.
func (k keyExchanges) run(ctx context.Context, f func() error) error {
	if k.running.Acquire(ctx, 1) != nil {
		return context.Cause(ctx)
	}
	defer k.running.Release(1)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f()
}

// Bounds of the blind relays that clients make a node connect to.
const (
	maxRelayJoins       = 16 // at once
	maxSourceRelayJoins = 4  // at once for clients of one public network, and begun in a second
)

// relayJoins counts the connections to blind relays that clients have named. The
// zero value is ready. Safe for concurrent use.
type relayJoins struct {
	mu      sync.Mutex
	running int
	by      map[netip.Addr]int
	begun   hostBudget
}

// begin reports whether another one may begin for a client now. The caller calls
// end when it is over.
func (j *relayJoins) begin(now time.Time, client netip.Addr) (end func(), ok bool) {
	network := networkOf(client)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running >= maxRelayJoins || !isBogon(network) && j.by[network] >= maxSourceRelayJoins ||
		!j.begun.take(now, network, maxSourceRelayJoins) {
		return nil, false
	}
	if j.by == nil {
		j.by = map[netip.Addr]int{}
	}
	j.running++
	j.by[network]++
	return sync.OnceFunc(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.running--
		if j.by[network]--; j.by[network] == 0 {
			delete(j.by, network)
		}
	}), true
}

// mayJoin reports whether we connect to the blind relay that a client names: the
// application has to allow it, and there must not be too many. The caller calls
// left when it is over.
func (h *serverHandshake) mayJoin(in Incoming) (left func(), ok bool) {
	l := h.l
	if l.cfg.AllowRelay == nil {
		return nil, false
	}
	l.node.guard("AllowRelay", func() { ok = l.cfg.AllowRelay(in) })
	if !ok {
		return nil, false
	}
	if left, ok = l.node.joins.begin(time.Now(), in.Addr.Addr()); !ok {
		l.node.stats.limited.Add(1)
	}
	return left, ok
}
