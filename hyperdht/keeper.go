package hyperdht

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

// Defaults of a [Keeper].
const (
	// DefaultKeepEvery leaves a record four chances before the nodes that hold
	// it forget it.
	DefaultKeepEvery = 12 * time.Hour
	// keepAtOnce is how many records are put at the same time.
	keepAtOnce = 4
	// keepRetry is the pause after a put that failed; it doubles each time.
	keepRetry = time.Minute
)

// KeeperConfig says how a keeper works. The zero value is good.
type KeeperConfig struct {
	// Every is the time between two puts of a record; 12 hours. Up to a tenth
	// less is drawn each time, so that records do not all come due at once.
	Every time.Duration
	// Changed, if not nil, is called with the state of a record after each put.
	// Calls may overlap.
	Changed func(Kept)
}

// A Keeper keeps records alive: one's own, and others', for which a signed
// record is enough. Nodes forget a record two days after it was last put or
// asked for; a keeper puts it again before. If it meets a later record of the
// same key, it keeps that one instead.
//
// Safe for concurrent use.
type Keeper struct {
	node   *Node
	cfg    KeeperConfig
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // room for one

	mu   sync.Mutex
	kept map[Target]*keptRecord
}

// Kept is the state of a record that a [Keeper] keeps. Do not change what it
// points to.
type Kept struct {
	Target  Target
	Mutable *MutableRecord // nil for an immutable record
	Value   []byte

	Next     time.Time // when it will be put
	Last     time.Time // when it was last put; zero if never
	Puts     int       // how often that was
	Found    int       // how many nodes were seen to have it before the last put
	Replicas int       // how many have accepted it then
	Refused  []Refusal // and which of the closest did not, and why
	Err      error     // why the last put failed; nil if some node accepted it
}

type keptRecord struct {
	Kept
	busy    bool
	retries int
}

// ErrKeeperClosed means that a keeper, or its node, is closed.
var ErrKeeperClosed = errors.New("hyperdht: keeper is closed")

// NewKeeper starts a keeper, which works until it or the node is closed. Either
// Close waits for it, and so must not be called by Changed.
func (n *Node) NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.Every <= 0 {
		cfg.Every = DefaultKeepEvery
	}
	k := &Keeper{node: n, cfg: cfg, wake: make(chan struct{}, 1), kept: map[Target]*keptRecord{}}
	ctx, cancel := context.WithCancel(n.ctx)
	k.cancel = cancel
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		k.kept = nil
		return k
	}
	n.wg.Add(1)
	k.done.Go(func() {
		defer n.wg.Done()
		k.run(ctx)
	})
	return k
}

// KeepMutable puts a record now and from time to time. If the keeper has a
// record of that key already, the later one is kept.
func (k *Keeper) KeepMutable(r MutableRecord) error {
	if err := r.Verify(); err != nil {
		return err
	}
	r.Value = bytes.Clone(r.Value)
	return k.keep(Kept{Target: r.Target(), Mutable: &r, Value: r.Value})
}

// KeepImmutable puts a value now and from time to time.
func (k *Keeper) KeepImmutable(value []byte) error {
	value = append([]byte{}, value...)
	return k.keep(Kept{Target: hash(value), Value: value})
}

func (k *Keeper) keep(r Kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		return ErrKeeperClosed
	}
	r.Next = wallClock()
	old := k.kept[r.Target]
	switch {
	case old == nil:
		k.kept[r.Target] = &keptRecord{Kept: r}
	case old.Mutable != nil && r.Mutable != nil && old.Mutable.Seq < r.Mutable.Seq:
		old.Mutable, old.Value, old.Next, old.retries = r.Mutable, r.Value, r.Next, 0
	}
	k.signal()
	return nil
}

// Forget stops keeping what is stored under a target. It does not remove it
// from the network.
func (k *Keeper) Forget(target Target) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, target)
}

// Get returns the state of what is kept under a target.
func (k *Keeper) Get(target Target) (state Kept, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.kept[target]; r != nil {
		return r.Kept, true
	}
	return Kept{}, false
}

// List returns the state of everything that is kept, in the order in which it
// will be put.
func (k *Keeper) List() []Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Kept, 0, len(k.kept))
	for _, r := range k.kept {
		out = append(out, r.Kept)
	}
	slices.SortFunc(out, func(a, b Kept) int {
		if c := a.Next.Compare(b.Next); c != 0 {
			return c
		}
		return bytes.Compare(a.Target[:], b.Target[:])
	})
	return out
}

// Close stops the keeper and returns when it does nothing any more. What it
// kept stays in the network until it is forgotten there.
func (k *Keeper) Close() error {
	k.cancel()
	k.done.Wait()
	return nil
}

func (k *Keeper) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// wallClock is the time by which nodes forget; the monotonic clock stands still
// while the machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }

// run is the keeper's procedure.
func (k *Keeper) run(ctx context.Context) {
	var puts sync.WaitGroup
	defer func() {
		puts.Wait()
		k.mu.Lock()
		k.kept = nil
		k.mu.Unlock()
	}()
	puts.Go(func() { // timers stand still while the machine sleeps
		for e := range k.node.rpc.Events(ctx) {
			if e.Kind == dhtrpc.EventWakeup {
				k.signal()
			}
		}
	})
	slots := make(chan struct{}, keepAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		for {
			r, next := k.due(wallClock())
			if r == nil {
				timer.Reset(time.Until(next))
				break
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			puts.Go(func() {
				k.put(ctx, r)
				<-slots
				k.signal()
			})
		}
	}
}

// due takes a record whose time has come, or tells when the next one's comes.
func (k *Keeper) due(now time.Time) (r *keptRecord, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next = now.Add(k.cfg.Every)
	for _, x := range k.kept {
		switch {
		case x.busy:
		case !x.Next.After(now):
			x.busy = true
			return x, now
		case x.Next.Before(next):
			next = x.Next
		}
	}
	return nil, next
}

// put puts one record and notes what came of it.
func (k *Keeper) put(ctx context.Context, r *keptRecord) {
	k.mu.Lock()
	state := r.Kept
	k.mu.Unlock()
	due := state.Next
	stored, found, latest, err := k.node.republish(ctx, state)
	if ctx.Err() != nil {
		return
	}
	now := wallClock()
	k.mu.Lock()
	r.busy = false
	r.Last, r.Puts, r.Found, r.Replicas, r.Refused, r.Err = now, r.Puts+1, found, len(stored.Nodes), stored.Refused, err
	if latest != nil && r.Mutable.Seq < latest.Seq {
		r.Mutable, r.Value = latest, latest.Value
	}
	if r.Next.Equal(due) { // else it has been changed meanwhile, and is due again
		pause := k.cfg.Every - rand.N(k.cfg.Every/10+1)
		if err != nil {
			pause = min(keepRetry<<min(r.retries, 20), pause)
			r.retries++
		} else {
			r.retries = 0
		}
		r.Next = now.Add(pause)
	}
	state = r.Kept
	k.mu.Unlock()
	if k.cfg.Changed != nil {
		k.cfg.Changed(state)
	}
}

// republish puts a record at the closest nodes, or a later one of the same key
// if they have that. It tells how many had what it put.
func (n *Node) republish(ctx context.Context, r Kept) (stored Stored, found int, latest *MutableRecord, err error) {
	target := (*dhtrpc.ID)(&r.Target)
	ask := dhtrpc.Message{Command: cmdImmutableGet, Target: target}
	put := dhtrpc.Message{Command: cmdImmutablePut, Target: target, Value: r.Value}
	var search mutableSearch
	if r.Mutable != nil {
		ask = mutableGet(&r.Target, 0)
		search = mutableSearch{key: r.Mutable.PublicKey, seq: r.Mutable.Seq}
	}
	closest, err := n.walk(ctx, ask, nil, func(reply *dhtrpc.Reply) {
		if r.Mutable != nil {
			search.take(reply)
		} else if reply.Value != nil && hash(reply.Value) == r.Target {
			found++
		}
	})
	if err != nil {
		return Stored{Target: r.Target}, 0, nil, tried("keeping", r.Target, err)
	}
	if r.Mutable != nil {
		latest = r.Mutable
		if search.found && search.best.Seq > latest.Seq {
			latest = &search.best.MutableRecord
		}
		if search.found {
			found = search.best.Replicas
		}
		put = putMessage(&r.Target, *latest)
	}
	stored, err = n.commitAll(ctx, r.Target, closest, always(put))
	return stored, found, latest, tried("keeping", r.Target, err)
}
