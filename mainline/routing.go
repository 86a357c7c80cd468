package mainline

import (
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/kad"
)

// Constants of BEP 5.
const (
	// K is the size of a bucket, of a list of nodes in a reply, and of the set
	// of closest nodes that a thing is stored at.
	K = 8
	// defaultBucketAge is how long a node is good after it was heard from, and
	// how long a bucket may stay unchanged.
	defaultBucketAge = 15 * time.Minute
)

// Tuning of ours.
const (
	maxSpares      = 8                // newcomers remembered for a full bucket
	maxChecks      = 32               // pings under way to find out who is alive
	maxStrangers   = maxChecks / 2    // of those, the ones to nodes that only sent us a query
	maxTried       = 1024             // strangers that were pinged lately
	tryAgain       = 10 * time.Minute // and are not pinged again for so long
	refreshPings   = 8                // questionable nodes pinged in one round of upkeep
	subnetInBucket = 2                // contacts of one public /24 (IPv6: /48)
	subnetInTable  = 10
)

// An entry is what the table notes about a node. All in it have answered us at
// least once: only those are named to others (docs/spec/mainline.md §8.1).
type entry struct {
	heard    time.Time // when it last answered, or asked us
	failed   bool      // its last query was in vain, and a ping is under way
	checking bool
}

// routes are a socket's routing table and what keeps it good. Guarded by the
// node's mutex.
type routes struct {
	table   *table
	byAddr  map[netip.AddrPort]key // one id an endpoint
	spares  map[int][]spare        // by bucket
	changed map[int]time.Time      // by bucket: when it last changed
	tried   *keep.Map[point, struct{}, struct{}]
	clock   *keep.Clock // of tried: the node's
	closest []*known    // scratch
	entered func(point) // is told of each node that enters the table
}

// A spare has answered us but found its bucket full.
type spare struct {
	point
	heard time.Time
}

func newRoutes(own key, clock *keep.Clock, entered func(point)) routes {
	return routes{
		clock:   clock,
		entered: entered,
		table:   kad.NewTable[key, entry](own, K, kad.Limits{PerBucket: subnetInBucket, PerTable: subnetInTable}),
		byAddr:  make(map[netip.AddrPort]key),
		spares:  make(map[int][]spare),
		changed: make(map[int]time.Time),
		tried:   keep.NewMap[point, struct{}, struct{}](keep.Limits{Entries: maxTried, Age: tryAgain}, nil),
	}
}

func (r *routes) bucket(id key) int { return kad.Prefix(r.table.Own(), id) }

// answered notes that the node proved to be at its address. It returns which
// node of its bucket should be pinged because it might have to give way, if any.
func (r *routes) answered(now time.Time, c point, age time.Duration) (doubtful *known) {
	if id, ok := r.byAddr[c.Addr]; ok && id != c.ID {
		r.remove(now, id) // the endpoint has another id now
	}
	if x := r.table.Get(c.ID); x != nil {
		if x.Addr != c.Addr {
			// The id lives elsewhere. It stays there as long as that node answers.
			return x
		}
		x.Data.heard, x.Data.failed = now, false
		r.table.Touch(x)
		r.changed[r.bucket(c.ID)] = now
		return nil
	}
	switch _, result := r.table.Insert(c, entry{heard: now}); result {
	case kad.Inserted:
		r.inserted(now, c)
	case kad.Full:
		x := r.weakest(c.ID)
		if x.Data.failed {
			r.drop(x)
			if _, result := r.table.Insert(c, entry{heard: now}); result == kad.Inserted {
				r.inserted(now, c)
			}
			return nil
		}
		r.keepSpare(now, c)
		if now.Sub(x.Data.heard) >= age {
			return x
		}
	}
	return nil
}

func (r *routes) inserted(now time.Time, c point) {
	r.byAddr[c.Addr] = c.ID
	r.changed[r.bucket(c.ID)] = now
	r.entered(c)
}

// weakest is the node of a bucket that gives way first: one whose last query
// was in vain, else the one not heard from for longest.
func (r *routes) weakest(id key) *known {
	b := r.table.Bucket(id)
	return slices.MinFunc(b, func(x, y *known) int {
		if x.Data.failed != y.Data.failed {
			if x.Data.failed {
				return -1
			}
			return 1
		}
		return x.Data.heard.Compare(y.Data.heard)
	})
}

func (r *routes) keepSpare(now time.Time, c point) {
	i := r.bucket(c.ID)
	list := slices.DeleteFunc(r.spares[i], func(s spare) bool { return s.ID == c.ID || s.Addr == c.Addr })
	if list = append(list, spare{c, now}); len(list) > maxSpares {
		list = slices.Delete(list, 0, 1)
	}
	r.spares[i] = list
}

// try reports whether a stranger that sent a query shall be pinged, since the
// table could take it. It says so once in a while only: our ping is a query to
// the stranger, which may ping us for the same reason.
func (r *routes) try(now time.Time, c point, age time.Duration) bool {
	if c.ID == r.table.Own() {
		return false
	}
	if _, _, tried := r.tried.Get(r.clock.Now(now), c); tried {
		return false
	}
	if len(r.table.Bucket(c.ID)) >= K && len(r.spares[r.bucket(c.ID)]) >= maxSpares {
		if x := r.weakest(c.ID); !x.Data.failed && now.Sub(x.Data.heard) < age {
			return false
		}
	}
	r.tried.Put(r.clock.Now(now), c, struct{}{}, struct{}{})
	return true
}

// asked notes that a node in the table sent us a query, and reports whether it
// is there, under this id and address.
func (r *routes) asked(now time.Time, c point) bool {
	x := r.table.Get(c.ID)
	if x == nil || x.Addr != c.Addr {
		return false
	}
	x.Data.heard = now
	r.table.Touch(x)
	return true
}

// remove takes a node out, and puts a spare of its bucket in its place.
func (r *routes) remove(now time.Time, id key) {
	x := r.table.Get(id)
	if x == nil {
		return
	}
	r.drop(x)
	i := r.bucket(id)
	for list := r.spares[i]; len(list) > 0; list = r.spares[i] {
		s := list[len(list)-1]
		if r.spares[i] = list[:len(list)-1]; len(list) == 1 {
			delete(r.spares, i)
		}
		if _, taken := r.byAddr[s.Addr]; taken {
			continue
		}
		if _, result := r.table.Insert(s.point, entry{heard: s.heard}); result == kad.Inserted {
			r.inserted(now, s.point)
			return
		}
	}
}

func (r *routes) drop(x *known) {
	r.table.Remove(x.ID)
	delete(r.byAddr, x.Addr)
}

// rebase rebuilds the table around another own id.
func (r *routes) rebase(own key) {
	for _, x := range r.table.Rebase(own) {
		delete(r.byAddr, x.Addr)
	}
	clear(r.spares)
	clear(r.changed)
}

// near returns the n nodes nearest to a target, nearest first. The slice is
// valid until the next call.
func (r *routes) near(target key, n int) []*known {
	r.closest = r.table.Closest(r.closest[:0], target, n)
	return r.closest
}

// depth is the number of buckets that matter: those that hold nodes, and the
// next deeper one.
func (r *routes) depth() int {
	deepest := -1
	for x := range r.table.All() {
		deepest = max(deepest, r.bucket(x.ID))
	}
	return min(deepest+2, 8*shortID)
}

// roomy are the buckets that matter and have room.
func (r *routes) roomy() (list []int) {
	size := make(map[int]int)
	for x := range r.table.All() {
		size[r.bucket(x.ID)]++
	}
	for i := range r.depth() {
		if size[i] < K {
			list = append(list, i)
		}
	}
	return list
}

// stale returns a bucket that matters and has not changed for the given age;
// false if there is none.
func (r *routes) stale(now time.Time, age time.Duration) (bucket int, ok bool) {
	for i := range r.depth() {
		if since, noted := r.changed[i]; !noted || now.Sub(since) >= age {
			return i, true
		}
	}
	return 0, false
}
