package hyperdht

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/keep"
)

const (
	// tidyEvery is how often what has expired is removed, and changes that
	// nobody waits for are committed.
	tidyEvery = 30 * time.Second
	// saveNodesEvery is how often the known nodes are saved.
	saveNodesEvery = 5 * time.Minute
	// maxSavedNodes is how many of them are saved.
	maxSavedNodes = 100
	// commitRetry is the pause after a commit that failed.
	commitRetry = 2 * time.Second
)

// records is the storing side of a node: it serves commands 2 to 10, and sees
// to it that with a durable store an answer leaves only when what it promises
// is on disk. Its state is guarded by the dhtrpc node's lock.
//
//	rec, known := newRecords(limits, store, rand, logger)  // known: Config.Nodes
//	handler:  return rec.serve(req)                        // commands 2 to 10
//	go rec.run(ctx, rpc)                                   // until ctx ends
//	rec.routes                                             // for commands 0 and 1, and Listen
type records struct {
	routes  *routeTable
	storage *storage
	plugins map[string]*PluginClient
	journal *journal // nil without a store
	store   Store
	logger  *slog.Logger
	panics  *rate.Sometimes // bounds what is logged of plugins that panic
	losses  *rate.Sometimes // and of commits that fail
	wake    chan struct{}   // room for one; somebody waits for a commit

	commits, failed, busy uint64 // commits made, commits that failed, requests dropped because the journal was full
}

// newRecords makes the storing side of a node and fills it from the store,
// which may be nil. It returns the nodes that were known when the store was
// last used.
func newRecords(limits StoreLimits, store Store, rnd *rand.Rand, logger *slog.Logger) (r *records, known []netip.AddrPort, err error) {
	var j *journal
	if store != nil {
		j = &journal{keep.NewJournal(maxJournal, maxJournalBytes)}
	}
	s := newStorage(limits, j, rnd)
	if store != nil {
		if known, err = s.load(time.Now(), store); err != nil {
			return nil, nil, err
		}
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &records{
		routes: s.routes, storage: s, plugins: map[string]*PluginClient{},
		journal: j, store: store, logger: logger, panics: seldom(), losses: seldom(), wake: make(chan struct{}, 1),
	}, known, nil
}

// serve answers a request, and returns false if it does not know the command.
// It runs in the dhtrpc node's handler.
func (r *records) serve(req *dhtrpc.Request) bool {
	self, persistent := req.NodeID()
	if !persistent {
		return false
	}
	if req.Command == cmdPlugin {
		r.servePlugin(req)
		return true
	}
	if r.journal != nil && r.journal.Len() >= maxJournal/2 {
		r.signal() // for renewals nobody waits; they must not fill the journal
	}
	if r.journal != nil && r.journal.Full() && stores(req.Command) {
		r.busy++
		return true
	}
	a := r.storage.serve(time.Now(), &self, req)
	if a.verdict == verdictUnknown {
		return false
	}
	if !a.stored || r.journal == nil {
		a.send(req)
		return true
	}
	p := req.Detach()
	r.journal.Wait(func(err error) {
		if err == nil {
			a.send(p)
		}
	})
	r.signal()
	return true
}

func stores(command uint64) bool {
	switch command {
	case cmdAnnounce, cmdUnannounce, cmdMutablePut, cmdImmutablePut:
		return true
	}
	return false
}

// A replier is a request that can be answered: now or, detached, later.
type replier interface {
	Reply(value []byte, opts ...dhtrpc.ReplyOption) error
	Error(code dhtrpc.ErrorCode, opts ...dhtrpc.ReplyOption) error
}

// send carries out an answer. A value that is too large for somebody who has
// not shown that he is where he says is left out; he gets a token to show it.
func (a answer) send(to replier) {
	switch a.verdict {
	case verdictReply:
		if to.Reply(a.value) == dhtrpc.ErrTooLarge && a.value != nil {
			to.Reply(nil, dhtrpc.Withheld())
		}
	case verdictBare:
		to.Reply(nil, dhtrpc.WithoutToken(), dhtrpc.WithoutCloser())
	case verdictError:
		to.Error(a.code)
	}
}

func (r *records) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run removes what expires and, with a store, commits changes and saves the
// nodes that are known. It is a procedure; it returns when the context ends and
// everything is committed.
func (r *records) run(ctx context.Context, node *dhtrpc.Node) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	saved := time.Now()
	for {
		select {
		case <-r.wake:
		case now := <-tick.C:
			node.Do(func() { r.storage.expire(now) })
			if r.store != nil && now.Sub(saved) >= saveNodesEvery {
				saved = now
				r.saveNodes(node)
			}
		case <-ctx.Done():
			if r.store != nil {
				r.saveNodes(node)
				r.commit(ctx, node)
			}
			return
		}
		if r.store != nil {
			r.commit(ctx, node)
		}
	}
}

// commit makes durable what the journal holds, and lets the answers leave that
// wait for it. While the store fails nothing is answered, and the changes are
// tried again until the context ends.
func (r *records) commit(ctx context.Context, node *dhtrpc.Node) {
	var changes []keep.Change
	var waiting []func(error)
	node.Do(func() { changes, waiting = r.journal.Take() })
	if len(changes) == 0 && len(waiting) == 0 {
		return
	}
	for {
		err := r.store.Commit(changes)
		for _, f := range waiting {
			f(err)
		}
		waiting = nil
		node.Do(func() {
			if r.commits++; err != nil {
				r.failed++
			}
		})
		if err == nil {
			return
		}
		r.losses.Do(func() { r.logger.Error("hyperdht: store failed", "changes", len(changes), "error", err) })
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			return
		}
	}
}

// saveNodes notes the nodes to begin with next time.
func (r *records) saveNodes(node *dhtrpc.Node) {
	nodes := node.Nodes()
	if len(nodes) == 0 {
		return
	}
	var value packedAddrs
	for _, c := range nodes[:min(len(nodes), maxSavedNodes)] {
		value = compact.AppendAddr(value, c.Addr)
	}
	node.Do(func() { r.journal.put(r.storage.clock.Now(time.Now()), kindNodes, nil, value) })
}
