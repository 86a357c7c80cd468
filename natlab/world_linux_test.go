package natlab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// Kinds of peers.
type kind int

const (
	warren kind = iota // a node in this process
	javascript
	program // the program warren
)

// kinds are those of a client and a server.
type kinds [2]kind

func (k kinds) String() string {
	names := [...]string{"warren", "JavaScript", "program"}
	return fmt.Sprintf("%s to %s", names[k[0]], names[k[1]])
}

// A place is a host and the box before it.
type place struct {
	class  Class
	box    *Box
	host   *Host
	script *script // where the reference's nodes of this host live
}

// A world is a laboratory with a DHT of twenty nodes, and of each class a place
// for a client and one for a server.
type world struct {
	lab    *Lab
	boot   string
	places map[Class][2]*place
}

func newWorld(t *testing.T, classes []Class, dht func(*testing.T, *Host) string) *world {
	t.Helper()
	w := &world{lab: New(t), places: map[Class][2]*place{}}
	w.boot = dht(t, w.lab.Public(20))
	for _, c := range classes {
		var both [2]*place
		for i := range both {
			b := w.lab.Box(c)
			both[i] = &place{class: c, box: b, host: b.Host()}
		}
		w.places[c] = both
	}
	return w
}

// scripts starts what the reference's nodes live in.
func (w *world) scripts(t *testing.T, k kinds) {
	t.Helper()
	for _, both := range w.places {
		for i, p := range both {
			p.scripts(t, k[i])
		}
	}
}

func (p *place) scripts(t *testing.T, k kind) {
	t.Helper()
	if k == javascript {
		needJavaScript(t)
		p.script = startScript(t, p.host)
	}
}

func (w *world) reset() {
	for _, both := range w.places {
		both[0].box.Reset()
		both[1].box.Reset()
	}
}

// start starts a peer at a place and waits until it is ready.
func (w *world) start(ctx context.Context, k kind, p *place) (peer, error) {
	switch k {
	case javascript:
		return newJSPeer(ctx, p.script, w.boot, p.class)
	case program:
		return &programPeer{host: p.host, boot: w.boot, class: p.class}, nil
	}
	return newWarrenPeer(ctx, p.host, w.boot, p.class)
}

// An outcome is how one try to connect ended.
type outcome struct {
	took           time.Duration     // from dialling to open, or to the error
	client, server hyperdht.PathKind // 0: not told
	finally        time.Duration     // from dialling to the path waited for
	err            error
}

var errLaboratory = errors.New("the laboratory itself failed")

// connect is tryPair behind boxes that remember nothing.
func (w *world) connect(t *testing.T, k kinds, p pair) outcome {
	t.Helper()
	client, server := w.places[p[0]][0], w.places[p[1]][1]
	client.box.Reset()
	server.box.Reset()
	return w.tryPair(t.Context(), k, p)
}

func (w *world) tryPair(ctx context.Context, k kinds, p pair) outcome {
	return w.try(ctx, k, w.places[p[0]][0], w.places[p[1]][1], conditions{})
}

// conditions are those under which two peers connect.
type conditions struct {
	noFastOpen bool
	loss       int // of a hundred datagrams, from dialling on

	clientRelay, serverRelay []hyperdht.PublicKey // that they name
	// finally is the path to wait for after the first; 0: none.
	finally hyperdht.PathKind
}

// try starts a fresh peer at each place, and connects them.
func (w *world) try(ctx context.Context, k kinds, client, server *place, cond conditions) (out outcome) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var c, s peer
	var key hyperdht.PublicKey
	var clientErr, serverErr error
	var wg sync.WaitGroup
	wg.Go(func() { c, clientErr = w.start(ctx, k[0], client) })
	wg.Go(func() {
		if s, serverErr = w.start(ctx, k[1], server); serverErr == nil {
			key, serverErr = s.listen(ctx, cond)
		}
	})
	wg.Wait()
	if c != nil {
		defer c.close()
	}
	if s != nil {
		defer s.close()
	}
	if err := errors.Join(clientErr, serverErr); err != nil {
		out.err = fmt.Errorf("%w: %w", errLaboratory, err)
		return out
	}
	if cond.loss > 0 {
		w.lab.SetLoss(cond.loss)
		defer w.lab.SetLoss(0)
	}
	start := time.Now()
	conn, err := c.dial(ctx, key, cond)
	out.took, out.client, out.err = conn.took, conn.path, err
	if err != nil {
		return out
	}
	far, err := s.accepted(ctx)
	out.server, out.err = far.path, err
	if out.err == nil {
		out.err = conn.echo(ctx)
	}
	if out.err != nil || cond.finally == 0 {
		return out
	}
	until := conn.until
	if until == nil {
		until = far.until
	}
	if until != nil {
		out.err = until(ctx, cond.finally)
		out.finally = time.Since(start)
	}
	if out.err == nil {
		out.err = conn.echo(ctx)
	}
	return out
}
