package kad

import (
	"iter"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// A Node is a contact in a [Table], with what its protocol notes about it. It
// belongs to the table; Data is the caller's to change.
type Node[T ID, D any] struct {
	Contact[T]
	Data D

	head         uint64 // the id's first 64 bits
	older, newer *Node[T, D]
}

// Newer is the node heard from next after n, nil for the newest.
func (n *Node[T, D]) Newer() *Node[T, D] { return n.newer }

// Older is the node heard from last before n, nil for the oldest.
func (n *Node[T, D]) Older() *Node[T, D] { return n.older }

// A Table is a routing table: buckets of at most k nodes by the length of the
// prefix they share with our own id, and beside it the order in which nodes
// were last heard from. Buckets are never split.
//
// The zero value is not usable; see [NewTable]. Not safe for concurrent use.
type Table[T ID, D any] struct {
	own     T
	ownW    [maxWords]uint64
	k       int
	limits  Limits
	subnets map[netip.Prefix]int
	untidy  bool             // limits have begun to hold; see Trim
	buckets [][]*Node[T, D]  // by length of the shared prefix, as far as the deepest that was used
	filled  [maxWords]uint64 // bit i, from the top: bucket i is not empty
	count   int              // of nodes
	oldest  *Node[T, D]
	newest  *Node[T, D]
}

// Limits bound how many contacts of one subnet ([Subnet]) a table takes, so
// that the holder of one network cannot fill it. 0 is no limit; addresses that
// are not public are never limited.
type Limits struct {
	PerBucket, PerTable int
	// Alone multiplies both while the table knows fewer than [Diverse] other
	// networks, so that a table works in a network that has no others. When it
	// knows that many, what is too much goes: see [Table.Trim]. Zero means 1.
	Alone int
}

// Diverse is the number of other networks that a table has to know before
// [Limits] hold without [Limits.Alone].
const Diverse = 8

// NewTable makes a table around our own id with buckets of k nodes.
func NewTable[T ID, D any](own T, k int, limits Limits) *Table[T, D] {
	return &Table[T, D]{
		own:     own,
		ownW:    words(own),
		k:       k,
		limits:  limits,
		subnets: map[netip.Prefix]int{},
	}
}

// Own is the id that the table is built around.
func (t *Table[T, D]) Own() T { return t.own }

// Len is the number of nodes.
func (t *Table[T, D]) Len() int { return t.count }

// Get returns the node with that id, nil if there is none.
func (t *Table[T, D]) Get(id T) *Node[T, D] {
	h := head(id)
	for _, n := range t.Bucket(id) {
		if n.head == h && n.ID == id {
			return n
		}
	}
	return nil
}

// Bucket returns the nodes that stand in the bucket of id. The slice is the
// table's own: do not change it, nor the table while reading it.
func (t *Table[T, D]) Bucket(id T) []*Node[T, D] {
	i := t.index(id)
	if i >= len(t.buckets) {
		return nil
	}
	return t.buckets[i]
}

// Oldest is the node that was heard from longest ago, nil in an empty table.
func (t *Table[T, D]) Oldest() *Node[T, D] { return t.oldest }

// Newest is the node that was heard from last, nil in an empty table.
func (t *Table[T, D]) Newest() *Node[T, D] { return t.newest }

// All yields the nodes from the newest heard from to the oldest. The table may
// lose the yielded node meanwhile, and no other.
func (t *Table[T, D]) All() iter.Seq[*Node[T, D]] {
	return func(yield func(*Node[T, D]) bool) {
		for n := t.newest; n != nil; {
			older := n.older
			if !yield(n) {
				return
			}
			n = older
		}
	}
}

// Random returns one of the nodes, each equally likely; nil in an empty table.
func (t *Table[T, D]) Random(r *rand.Rand) *Node[T, D] {
	if t.count == 0 {
		return nil
	}
	i := r.IntN(t.count)
	for _, b := range t.buckets {
		if i < len(b) {
			return b[i]
		}
		i -= len(b)
	}
	panic("BUG: kad: table's buckets and count differ")
}

// An Insertion says what became of an [Table.Insert].
type Insertion int

const (
	Inserted Insertion = iota // the contact is in the table now
	Known                     // its id was there already; nothing changed
	Self                      // it is our own id
	Full                      // its bucket has k nodes
	Crowded                   // its subnet has as many nodes as the limits allow
)

// Insert adds a contact as the newest node. With [Known] it returns the node
// that is there, with [Inserted] the new one, else nil.
func (t *Table[T, D]) Insert(c Contact[T], data D) (*Node[T, D], Insertion) {
	if c.ID == t.own {
		return nil, Self
	}
	if n := t.Get(c.ID); n != nil {
		return n, Known
	}
	i := t.index(c.ID)
	for i >= len(t.buckets) {
		t.buckets = append(t.buckets, nil)
	}
	if len(t.buckets[i]) >= t.k {
		return nil, Full
	}
	subnet, limited := Subnet(c.Addr.Addr())
	if limited && t.crowded(i, subnet) {
		return nil, Crowded
	}
	n := &Node[T, D]{Contact: c, Data: data, head: head(c.ID)}
	t.buckets[i] = append(t.buckets[i], n)
	t.filled[i/64] |= 1 << (63 - i%64)
	t.count++
	if limited {
		t.subnets[subnet]++
		t.untidy = t.untidy || len(t.subnets) == Diverse+1 && t.limits.Alone > 1
	}
	t.linkNewest(n)
	return n, Inserted
}

// Trim removes and returns the nodes that stand in the table because it knew too
// few other networks when they came ([Limits.Alone]), once it knows enough. Those
// in the deepest buckets stay, and of a bucket those that came first. Call it
// after nodes were inserted.
func (t *Table[T, D]) Trim() (removed []*Node[T, D]) {
	if !t.untidy {
		return nil
	}
	if t.untidy = false; len(t.subnets) <= Diverse {
		return nil
	}
	inTable := map[netip.Prefix]int{}
	for i := len(t.buckets) - 1; i >= 0; i-- {
		inBucket := map[netip.Prefix]int{}
		for _, n := range t.buckets[i] {
			subnet, limited := Subnet(n.Addr.Addr())
			if !limited {
				continue
			}
			if reached(inBucket[subnet], t.limits.PerBucket) || reached(inTable[subnet], t.limits.PerTable) {
				removed = append(removed, n)
				continue
			}
			inBucket[subnet]++
			inTable[subnet]++
		}
	}
	for _, n := range removed {
		t.Remove(n.ID)
	}
	return removed
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// Remove takes the node with that id out and returns it, nil if there is none.
func (t *Table[T, D]) Remove(id T) *Node[T, D] {
	n := t.Get(id)
	if n == nil {
		return nil
	}
	t.count--
	i := t.index(id)
	b := t.buckets[i]
	b = slices.Delete(b, slices.Index(b, n), slices.Index(b, n)+1)
	if t.buckets[i] = b; len(b) == 0 {
		t.filled[i/64] &^= 1 << (63 - i%64)
	}
	if subnet, limited := Subnet(n.Addr.Addr()); limited {
		if t.subnets[subnet]--; t.subnets[subnet] == 0 {
			delete(t.subnets, subnet)
		}
	}
	t.unlink(n)
	return n
}

// Touch makes n, which must be in the table, the newest node.
func (t *Table[T, D]) Touch(n *Node[T, D]) {
	if t.newest == n {
		return
	}
	t.unlink(n)
	t.linkNewest(n)
}

// Rebase rebuilds the table around another own id. Nodes that find no place
// any more, and the new own id itself, are dropped and returned.
func (t *Table[T, D]) Rebase(own T) (dropped []*Node[T, D]) {
	fresh := NewTable[T, D](own, t.k, t.limits)
	for n := t.oldest; n != nil; n = n.newer {
		if _, r := fresh.Insert(n.Contact, n.Data); r != Inserted {
			dropped = append(dropped, n)
		}
	}
	dropped = append(dropped, fresh.Trim()...)
	*t = *fresh
	return dropped
}

// Closest appends to dst the n nodes closest to target, nearest first. It does
// not allocate if dst has room.
//
// Let diff be own XOR target. A node of bucket i shares i bits with us and
// differs in the next. If diff has a one there the node agrees with the target
// where we do not, so it and all like it are nearer than whoever stands in
// deeper buckets; if diff has a zero it is farther than all of those. So the
// buckets' order by distance is: the ones of diff ascending, then its zeros
// descending. Only within a bucket there is anything to sort.
func (t *Table[T, D]) Closest(dst []*Node[T, D], target T, n int) []*Node[T, D] {
	n += len(dst)
	diff := words(target)
	for w := range diff {
		diff[w] ^= t.ownW[w]
	}
	for w := range diff {
		for m := t.filled[w] & diff[w]; m != 0 && len(dst) < n; {
			i := bits.LeadingZeros64(m)
			m &^= 1 << (63 - i)
			dst = t.appendSorted(dst, 64*w+i, target, n)
		}
	}
	for w := maxWords - 1; w >= 0; w-- {
		for m := t.filled[w] &^ diff[w]; m != 0 && len(dst) < n; {
			i := 63 - bits.TrailingZeros64(m)
			m &^= 1 << (63 - i)
			dst = t.appendSorted(dst, 64*w+i, target, n)
		}
	}
	return dst
}

// appendSorted appends bucket i, nearest to target first, and cuts dst to n.
func (t *Table[T, D]) appendSorted(dst []*Node[T, D], i int, target T, n int) []*Node[T, D] {
	h, from := head(target), len(dst)
	for _, x := range t.buckets[i] {
		j := len(dst)
		if j == n {
			if !nearer(x, dst[n-1], h, target) {
				continue
			}
			j--
		} else {
			dst = append(dst, x)
		}
		for ; j > from && nearer(x, dst[j-1], h, target); j-- {
			dst[j] = dst[j-1]
		}
		dst[j] = x
	}
	return dst
}

// nearer tells whether a is nearer to target, whose first 64 bits are h.
func nearer[T ID, D any](a, b *Node[T, D], h uint64, target T) bool {
	if x, y := a.head^h, b.head^h; x != y {
		return x < y
	}
	return Compare(target, a.ID, b.ID) < 0
}

// index is the bucket of id; our own id counts into the last.
func (t *Table[T, D]) index(id T) int {
	return min(Prefix(t.own, id), 8*len(id)-1)
}

func (t *Table[T, D]) crowded(bucket int, subnet netip.Prefix) bool {
	perBucket, perTable, inTable := t.limits.PerBucket, t.limits.PerTable, t.subnets[subnet]
	if t.limits.Alone > 1 && len(t.subnets)-min(inTable, 1) < Diverse {
		perBucket, perTable = perBucket*t.limits.Alone, perTable*t.limits.Alone
	}
	if reached(inTable, perTable) {
		return true
	}
	if !reached(inTable, perBucket) {
		return false
	}
	same := 0
	for _, n := range t.buckets[bucket] {
		if subnet.Contains(n.Addr.Addr()) {
			same++
		}
	}
	return same >= perBucket
}

func (t *Table[T, D]) linkNewest(n *Node[T, D]) {
	n.older, n.newer = t.newest, nil
	if t.newest != nil {
		t.newest.newer = n
	} else {
		t.oldest = n
	}
	t.newest = n
}

func (t *Table[T, D]) unlink(n *Node[T, D]) {
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		t.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		t.newest = n.older
	}
	n.older, n.newer = nil, nil
}
