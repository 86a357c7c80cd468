package mainline

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/internal/keep"
)

// A Store keeps what a node stores for others, and the nodes it knows, through
// restarts. Package store has one in a file.
type Store = keep.Store

// A StoreChange is one step in the life of a stored entry.
type StoreChange = keep.Change

// ErrDamagedStore means that a store holds what no node put there.
var ErrDamagedStore = errors.New("mainline: store is damaged")

// The kinds of entry in a store. Addresses are compact.
const (
	kindPeer = "mainline.peer" // info-hash | address -> seed (1)
	kindItem = "mainline.item" // target -> source (16) | d 1:k 4:salt 3:seq 3:sig 1:v e
	kindNode = "mainline.node" // number of the socket (1) -> id length (1) | id | addresses

	kindPrefix = "mainline."
)

// Tuning of ours.
const (
	maxJournal      = 16384   // changes that wait for a commit; then nothing more is admitted
	maxJournalBytes = 8 << 20 // of their keys and values
	maxSavedNodes   = 200     // nodes of a socket in the store
	saveNodesEvery  = 10 * time.Minute
)

// A journal notes the changes of the stores for the durable one. Nil notes
// nothing. Guarded by the node's mutex.
type journal struct {
	keep.Journal
	noted chan struct{} // room for one: there is something to commit
	idLen int
}

func (j *journal) add(c keep.Change) {
	j.Add(c)
	select {
	case j.noted <- struct{}{}:
	default:
	}
}

// full reports whether nothing more is to be admitted.
func (j *journal) full() bool { return j != nil && j.Full() }

// wait has a function called with the outcome of the next commit.
func (j *journal) wait(f func(error)) {
	j.Wait(f)
	select {
	case j.noted <- struct{}{}:
	default:
	}
}

func (j *journal) peer(now time.Time, infoHash []byte, peer netip.AddrPort, seed bool) {
	if j == nil {
		return
	}
	value := []byte{0}
	if seed {
		value[0] = 1
	}
	j.add(keep.Change{Op: keep.OpPut, Kind: kindPeer, Key: appendAddr(slices.Clone(infoHash), peer), Value: value, Stamp: now})
}

func (j *journal) item(now time.Time, target []byte, i *Item, from netip.Addr) {
	if j == nil {
		return
	}
	s := source(from).As16()
	j.add(keep.Change{Op: keep.OpPut, Kind: kindItem, Key: slices.Clone(target), Value: appendItem(s[:], i), Stamp: now})
}

func (j *journal) remove(kind string, key []byte) {
	if j != nil {
		j.add(keep.Change{Op: keep.OpRemove, Kind: kind, Key: key})
	}
}

// appendItem writes an item as the dictionary that a put carries.
func appendItem(b []byte, i *Item) []byte {
	b = append(b, 'd')
	if i.Mutable() {
		b = bencode.AppendString(append(b, "1:k"...), i.Key)
		b = bencode.AppendString(append(b, "4:salt"...), i.Salt)
		b = bencode.AppendInt(append(b, "3:seq"...), i.Seq)
		b = bencode.AppendString(append(b, "3:sig"...), i.Signature)
	}
	b = append(append(b, "1:v"...), i.Value...)
	return append(b, 'e')
}

// parseItem reads what appendItem wrote.
func parseItem(b []byte) (*Item, error) {
	var d body
	if !d.parse(b) {
		return nil, ErrDamagedStore
	}
	i := &Item{Value: slices.Clone(d.value)}
	if d.any(hasKey) {
		i.Key, i.Salt, i.Signature, i.Seq = slices.Clone(d.key), slices.Clone(d.salt), slices.Clone(d.sig), d.seq
		if len(i.Salt) == 0 {
			i.Salt = nil
		}
	}
	return i, i.check()
}

// makeStores makes the stores; with a durable one they note what goes.
func (n *Node) makeStores() {
	var forgetItem func(key)
	if n.cfg.Store != nil {
		n.journal = &journal{Journal: *keep.NewJournal(maxJournal, maxJournalBytes), noted: make(chan struct{}, 1), idLen: n.idLen}
		forgetItem = func(target key) { n.journal.remove(kindItem, slices.Clone(target[:n.idLen])) }
	}
	for i := range n.peers {
		var forgetPeer func(key, netip.AddrPort)
		if n.journal != nil {
			forgetPeer = func(infoHash key, peer netip.AddrPort) {
				n.journal.remove(kindPeer, appendAddr(slices.Clone(infoHash[:n.idLen]), peer))
			}
		}
		n.peers[i] = newPeers(n.limits(n.cfg.MaxPeers, n.cfg.PeerAge), forgetPeer)
	}
	n.items = newItems(n.limits(n.cfg.MaxItems, n.cfg.ItemAge), forgetItem)
}

// limits are those of a store of so many entries.
func (n *Node) limits(entries int, age time.Duration) keep.Limits {
	return keep.Limits{Entries: entries, Age: age, PerSource: n.cfg.PerSource, PerNetwork: n.cfg.PerNetwork}
}

// load fills the empty stores from the durable one. Store time goes on from the
// newest stamp (keep.Clock), so neither a long pause nor a wrong clock removes
// all at once.
func (n *Node) load(reading time.Time) error {
	if n.cfg.Store == nil {
		return nil
	}
	var entries []keep.Change
	err := n.cfg.Store.Load(func(c keep.Change) error {
		c.Key, c.Value = slices.Clone(c.Key), slices.Clone(c.Value)
		entries = append(entries, c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("mainline: store: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(c keep.Change) bool {
		return !strings.HasPrefix(c.Kind, kindPrefix) // another protocol's
	})
	if len(entries) == 0 {
		return nil
	}
	slices.SortStableFunc(entries, func(a, b keep.Change) int { return a.Stamp.Compare(b.Stamp) })
	now := n.clock.Start(reading, entries[len(entries)-1].Stamp)
	for _, c := range entries {
		if !n.reload(&c) {
			return ErrDamagedStore
		}
	}
	for _, p := range n.peers {
		p.sets.Expire(now)
	}
	n.items.kept.Expire(now)
	return nil
}

// reload puts one entry of the durable store back to where it was. It returns
// false if it is none of ours although it says so. Entries of a network with ids
// of another length are passed over.
func (n *Node) reload(c *keep.Change) bool {
	switch c.Kind {
	case kindPeer:
		if size := len(c.Key) - n.idLen; size != peer4Size && size != peer6Size {
			return len(c.Key) > peer4Size
		}
		peer, _ := parseAddr(c.Key[n.idLen:])
		if len(c.Value) != 1 || !usable(peer) {
			return false
		}
		n.peers[family(peer.Addr().Is6())].announce(c.Stamp, toKey(c.Key[:n.idLen]), peer, c.Value[0] == 1)
	case kindItem:
		if len(c.Key) != n.idLen {
			return true
		}
		if len(c.Value) < 16 {
			return false
		}
		i, err := parseItem(c.Value[16:])
		if err != nil || i.target(n.cfg.Hash) != toKey(c.Key) {
			return false
		}
		from := netip.AddrFrom16([16]byte(c.Value[:16])).Unmap()
		n.items.put(c.Stamp, toKey(c.Key), i, nil, from)
	case kindNode:
		return n.reloadNodes(c)
	default:
		return false
	}
	return true
}

func (n *Node) reloadNodes(c *keep.Change) bool {
	if len(c.Key) != 1 || len(c.Value) < 1 || len(c.Value) < 1+int(c.Value[0]) {
		return false
	}
	id, addrs := c.Value[1:1+c.Value[0]], c.Value[1+c.Value[0]:]
	if i := int(c.Key[0]); i < len(n.sockets) {
		s := n.sockets[i]
		if len(id) == n.idLen && !s.fixed {
			s.id = toKey(id)
			s.routes.rebase(s.id)
		}
		size := peer4Size
		if s.is6 {
			size = peer6Size
		}
		for ; len(addrs) >= size; addrs = addrs[size:] {
			a, _ := parseAddr(addrs[:size])
			n.saveAddr(a)
		}
	}
	return true
}

// noteNodes notes each socket's id and the nodes it knows.
func (n *Node) noteNodes(now time.Time) {
	if n.journal == nil || now.Before(n.nextSave) {
		return
	}
	n.nextSave = now.Add(saveNodesEvery)
	for _, s := range n.sockets {
		value := append([]byte{byte(n.idLen)}, s.id[:n.idLen]...)
		count := 0
		for x := range s.routes.table.All() {
			if count++; count > maxSavedNodes {
				break
			}
			value = appendAddr(value, x.Addr)
		}
		n.journal.add(keep.Change{Op: keep.OpPut, Kind: kindNode, Key: []byte{byte(s.index)}, Value: value, Stamp: n.clock.Now(now)})
	}
}

// commit is a procedure: it makes the journal durable, whatever has gathered at
// a time, and lets those go on who wait for it.
func (n *Node) commit() {
	for {
		closing := false
		select {
		case <-n.journal.noted:
		case <-n.ctx.Done():
			closing = true
		}
		n.mu.Lock()
		if closing {
			n.nextSave = time.Time{}
			n.noteNodes(time.Now())
		}
		changes, waiting := n.journal.Take()
		n.mu.Unlock()
		var err error
		if len(changes) > 0 {
			if err = n.cfg.Store.Commit(changes); err != nil {
				n.mu.Lock()
				n.warn(fmt.Errorf("mainline: store: %w", err), netip.AddrPort{})
				n.mu.Unlock()
			}
		}
		for _, f := range waiting {
			f(err)
		}
		if closing {
			return
		}
	}
}
