package hyperdht

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/store"
)

// A fakeStore is a store in memory that can be made to wait and to fail.
type fakeStore struct {
	mu      sync.Mutex
	entries map[string]keep.Change
	fail    error
	gate    chan struct{} // not nil: a commit takes one from here first
	commits int
}

func (f *fakeStore) Load(each func(keep.Change) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.entries {
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeStore) Commit(changes []keep.Change) error {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.entries == nil {
		f.entries = map[string]keep.Change{}
	}
	f.commits++
	for _, c := range changes {
		id := c.Kind + string(c.Key)
		switch old, ok := f.entries[id]; {
		case c.Op == keep.OpPut:
			f.entries[id] = c
		case c.Op == keep.OpRemove:
			delete(f.entries, id)
		case ok:
			old.Stamp = c.Stamp
			f.entries[id] = old
		}
	}
	return nil
}

func (f *fakeStore) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

// putAt asks one node to store a value and returns its answer.
func (tn *recordsNet) putAt(client, at *Node, value string) error {
	target := hash([]byte(value))
	m := dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)}
	r, err := client.rpc.Request(tn.Context(), at.rpc.PublicAddr(), m)
	if err != nil {
		return err
	}
	node, _ := r.Contact()
	m.Command, m.Value = cmdImmutablePut, []byte(value)
	_, err = client.commitTo(tn.Context(), node, r.Token, always(m))
	return err
}

func TestAnswerLeavesAfterTheCommit(t *testing.T) {
	inNet(t, 2, func(tn *recordsNet) {
		disk := &fakeStore{gate: make(chan struct{})}
		node := tn.add(nil, disk, dhtrpc.Never)
		began := time.Now()
		time.AfterFunc(2500*time.Millisecond, func() { close(disk.gate) })
		tn.must("put", tn.putAt(tn.nodes[1], node, "value"))
		if took := time.Since(began); took < 2500*time.Millisecond {
			tn.Errorf("answered after %v", took)
		}
		if disk.size() == 0 {
			tn.Error("answered and not stored")
		}
	})
}

func TestStoreFails(t *testing.T) {
	inNet(t, 2, func(tn *recordsNet) {
		disk := &fakeStore{fail: errors.New("disk full")}
		node := tn.add(nil, disk, dhtrpc.Never)
		if err := tn.putAt(tn.nodes[1], node, "value"); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error("answered although the store failed:", err)
		}
		disk.mu.Lock()
		disk.fail = nil
		disk.mu.Unlock()
		time.Sleep(2 * commitRetry)
		if disk.size() == 0 {
			tn.Error("what was noted is not tried again")
		}
		tn.must("put", tn.putAt(tn.nodes[1], node, "value"))
		node.rpc.Do(func() {
			if node.records.failed == 0 || node.records.commits == 0 {
				tn.Errorf("%d commits, %d failed", node.records.commits, node.records.failed)
			}
		})
	})
}

// A lineCounter counts the lines of a log.
type lineCounter struct{ atomic.Int64 }

func (c *lineCounter) Write(line []byte) (int, error) {
	c.Add(1)
	return len(line), nil
}

// The application's functions may panic as often as strangers like: that does not
// fill the log.
func TestPanicsAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lineCounter
		panics, logger := seldom(), slog.New(slog.NewTextHandler(&log, nil))
		for range 10 {
			for range 1000 {
				guard(panics, logger, "Allow", func() { panic("oh no") })
			}
			time.Sleep(time.Minute)
		}
		if n := log.Load(); n < 10 || n > 15 {
			t.Errorf("10,000 panics in ten minutes: %d lines", n)
		}
	})
}

// A store that fails for long does not fill the log.
func TestStoreFailsForLong(t *testing.T) {
	inNet(t, 2, func(tn *recordsNet) {
		disk := &fakeStore{fail: errors.New("disk full")}
		node := tn.add(nil, disk, dhtrpc.Never)
		var log lineCounter
		node.rpc.Do(func() { node.records.logger = slog.New(slog.NewTextHandler(&log, nil)) })
		if err := tn.putAt(tn.nodes[1], node, "value"); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error("answered although the store failed:", err)
		}
		time.Sleep(10 * time.Minute)
		failed := uint64(0)
		node.rpc.Do(func() { failed = node.records.failed })
		if lines := log.Load(); failed < 200 || lines < 3 || lines > 15 {
			tn.Errorf("%d commits failed, %d lines", failed, lines)
		}
	})
}

// While the store does not keep up nothing more is admitted, and reads go on.
func TestStoreIsOverrun(t *testing.T) {
	inNet(t, 2, func(tn *recordsNet) {
		disk := &fakeStore{gate: make(chan struct{})}
		defer close(disk.gate)
		node := tn.add(nil, disk, dhtrpc.Never)
		for range 2 { // the first lot is being committed while the second waits
			node.rpc.Do(func() {
				for i := range maxJournal {
					node.records.journal.renew(time.Now(), kindImmutable, binary.LittleEndian.AppendUint32(nil, uint32(i)))
				}
			})
			node.records.signal()
			time.Sleep(time.Second)
		}
		if err := tn.putAt(tn.nodes[1], node, "value"); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error(err)
		}
		target := hash(nil)
		_, err := tn.nodes[1].rpc.Request(tn.Context(), node.rpc.PublicAddr(), dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)})
		tn.must("get", err)
		node.rpc.Do(func() {
			if node.records.busy == 0 {
				tn.Error("not counted")
			}
		})
	})
}

// Reads, which note when an entry was last used, keep no put waiting, and fill no
// memory while the store fails.
func TestManyReadsDoNotFillTheJournal(t *testing.T) {
	inNet(t, 2, func(tn *recordsNet) {
		disk := &fakeStore{}
		node := tn.add(nil, disk, dhtrpc.Never)
		renew := func() {
			node.rpc.Do(func() {
				for i := range 2 * maxJournal {
					node.records.journal.renew(time.Now(), kindImmutable, binary.LittleEndian.AppendUint32(nil, uint32(i)))
				}
				if n := node.records.journal.Len(); n > maxJournal {
					tn.Errorf("%d changes wait", n)
				}
			})
		}
		renew()
		began := time.Now()
		tn.must("put", tn.putAt(tn.nodes[1], node, "value"))
		if took := time.Since(began); took > 10*time.Second {
			tn.Errorf("a put waited for %v", took)
		}
	})
}

// Everything that a node stores comes back after a restart, from a real file.
func TestRestart(t *testing.T) {
	inNet(t, 4, func(tn *recordsNet) {
		ctx := tn.Context()
		dir := tn.TempDir()
		h := tn.net.Host()
		start := func() (*Node, func()) {
			db, err := store.Open(dir, store.Options{NoSync: true})
			if err != nil {
				tn.Fatal(err)
			}
			n, stop := tn.start(h, db, dhtrpc.Never)
			return n, func() { stop(); db.Close() }
		}
		n, stop := start()
		client := tn.nodes[2]
		key := testKey(3)
		_, err := client.ImmutablePut(ctx, []byte("immutable"), PutOptions{})
		tn.must("put", err)
		_, _, err = client.MutablePut(ctx, key, 7, []byte("mutable"), PutOptions{})
		tn.must("put", err)
		relays := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}
		_, err = client.Announce(ctx, topic, key, AnnounceOptions{Bump: 9, Relays: relays})
		tn.must("announce", err)
		self := TargetOf(keyOf(key))
		_, err = client.Announce(ctx, self, key, AnnounceOptions{})
		tn.must("announce", err)
		_, err = client.Announce(ctx, Hash([]byte("other")), testKey(4), AnnounceOptions{})
		tn.must("announce", err)
		tn.must("unannounce", client.Unannounce(ctx, Hash([]byte("other")), testKey(4), AnnounceOptions{}))

		answers := func(n *Node) (out []string) {
			for _, m := range []dhtrpc.Message{
				{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(ptr(hash([]byte("immutable"))))},
				{Command: cmdMutableGet, Target: (*dhtrpc.ID)(&self), Value: []byte{7}},
				{Command: cmdLookup, Target: (*dhtrpc.ID)(&topic)},
				{Command: cmdFindPeer, Target: (*dhtrpc.ID)(&self)},
				{Command: cmdLookup, Target: (*dhtrpc.ID)(ptr(Hash([]byte("other"))))},
			} {
				r, err := client.rpc.Request(ctx, n.rpc.PublicAddr(), m)
				tn.must("get", err)
				out = append(out, string(r.Value))
			}
			return out
		}
		before := answers(n)
		for i, v := range before {
			if (v == "") != (i == 4) {
				tn.Fatalf("answer %d is %q", i, v)
			}
		}
		stop()
		time.Sleep(time.Minute)
		n, stop = start()
		if after := answers(n); fmt.Sprint(after) != fmt.Sprint(before) {
			tn.Errorf("after: %q\nbefore: %q", after, before)
		}
		if to, ok := n.records.routes.relay(time.Now(), self); !ok || to != client.rpc.PublicAddr() {
			tn.Errorf("forwards to %v", to)
		}
		stop()
		// A day of pause counts as five minutes: it may as well be a wrong clock
		// (keep.Clock). Then announcements expire, in the file too; records live.
		time.Sleep(24 * time.Hour)
		n, stop = start()
		if after := answers(n); fmt.Sprint(after) != fmt.Sprint(before) {
			tn.Errorf("a day later: %q\nbefore: %q", after, before)
		}
		time.Sleep(DefaultPeerAge) // the route was used just now
		after := answers(n)
		if after[0] == "" || after[1] == "" || after[2] != "" || after[3] != "" {
			tn.Errorf("some minutes after that: %q", after)
		}
		stop()
		db, err := store.Open(dir, store.Options{})
		tn.must("open", err)
		defer db.Close()
		kinds := map[string]int{}
		var known []byte
		db.Load(func(c keep.Change) error {
			if kinds[c.Kind]++; c.Kind == kindNodes {
				known = bytes.Clone(c.Value)
			}
			return nil
		})
		if want := map[string]int{kindImmutable: 1, kindMutable: 1, kindNodes: 1}; !maps.Equal(kinds, want) {
			tn.Errorf("the file holds %v, want %v", kinds, want)
		}
		if packedAddrs(known).len() < 3 {
			tn.Errorf("%x known nodes", known)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// A node finds its network again by the nodes that it knew.
func TestKnownNodesSuffice(t *testing.T) {
	inNet(t, 6, func(tn *recordsNet) {
		disk := &fakeStore{}
		h := tn.net.Host()
		_, stop := tn.start(h, disk, dhtrpc.Always)
		stop()
		tn.boot = "192.0.2.1:1" // nobody is there
		n, stop := tn.start(h, disk, dhtrpc.Always)
		defer stop()
		if len(n.rpc.Nodes()) < 5 {
			tn.Errorf("knows %d nodes", len(n.rpc.Nodes()))
		}
	})
}

func TestStoreWithNonsense(t *testing.T) {
	good := func() map[string]keep.Change {
		target := hash([]byte("v"))
		c := keep.Change{Kind: kindImmutable, Key: target[:], Value: []byte{1, 2, 3, 4, 'v'}, Stamp: time.Now()}
		return map[string]keep.Change{"x": c}
	}
	if _, _, err := newRecords(StoreLimits{}, &fakeStore{entries: good()}, rand.New(rand.NewPCG(1, 1)), nil); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*keep.Change){
		"kind":             func(c *keep.Change) { c.Kind = "hyperdht.unheard-of" },
		"short key":        func(c *keep.Change) { c.Key = c.Key[:31] },
		"another value":    func(c *keep.Change) { c.Value[4] = 'w' },
		"no source":        func(c *keep.Change) { c.Value = c.Value[:3] },
		"not a record":     func(c *keep.Change) { c.Kind = kindMutable },
		"not a route":      func(c *keep.Change) { c.Kind = kindRoute },
		"not a bump":       func(c *keep.Change) { c.Kind = kindBump },
		"not a refresh":    func(c *keep.Change) { c.Kind = kindRefresh },
		"not a peer's key": func(c *keep.Change) { c.Kind = kindPeer },
	} {
		f := &fakeStore{entries: good()}
		c := f.entries["x"]
		change(&c)
		f.entries["x"] = c
		if _, _, err := newRecords(StoreLimits{}, f, rand.New(rand.NewPCG(1, 1)), nil); !errors.Is(err, ErrDamagedStore) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What belongs to another protocol is left alone.
	f := &fakeStore{entries: good()}
	f.entries["y"] = keep.Change{Kind: "mainline.peer", Key: []byte("k"), Stamp: time.Now()}
	if _, _, err := newRecords(StoreLimits{}, f, rand.New(rand.NewPCG(1, 1)), nil); err != nil {
		t.Error(err)
	}
}

func FuzzRestore(f *testing.F) {
	f.Add(uint8(0), make([]byte, 64), make([]byte, 10))
	f.Add(uint8(1), make([]byte, 32), make([]byte, 44))
	f.Add(uint8(3), make([]byte, 32), make([]byte, 75))
	kinds := []string{kindPeer, kindRoute, kindBump, kindRefresh, kindMutable, kindImmutable, kindNodes}
	f.Fuzz(func(t *testing.T, kind uint8, key, value []byte) {
		s := newStorage(StoreLimits{}, nil, rand.New(rand.NewPCG(1, 2)))
		c := keep.Change{Kind: kinds[int(kind)%len(kinds)], Key: key, Value: value, Stamp: testNow}
		if !s.restore(&c) {
			return
		}
		target := dhtrpc.ID{}
		copy(target[:], key)
		for command := uint64(cmdFindPeer); command <= cmdImmutableGet; command++ {
			s.serve(testNow, &dhtrpc.ID{}, &dhtrpc.Request{Command: command, Target: &target, Value: []byte{0}, From: netip.MustParseAddrPort("1.2.3.4:5")})
		}
	})
}

// The issue: "50,000 records of each kind (500-byte values) in one node: at most
// 150 MB of memory and 200 MB of file, no growth past the caps under a day of
// virtual churn."
func TestFiftyThousandRecordsOfEachKind(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	db, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	j := &journal{keep.NewJournal(maxJournal, maxJournalBytes)}
	s := newStorage(StoreLimits{}, j, rand.New(rand.NewPCG(1, 2)))
	flush := func() {
		changes, _ := j.Take()
		if err := db.Commit(changes); err != nil {
			t.Fatal(err)
		}
	}
	const n = 50_000
	add := func(i int, now time.Time) {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		value := make([]byte, 500)
		binary.LittleEndian.PutUint64(value, uint64(i))
		target := hash(value)
		id := dhtrpc.ID(target)
		s.serve(now, &dhtrpc.ID{}, &dhtrpc.Request{Command: cmdImmutablePut, Target: &id, Token: &[32]byte{}, Value: value, From: from})
		m := mutableRecord{seq: uint64(i), value: value}
		record := m.append(make([]byte, 0, m.size())) // as mutablePut does after its checks
		s.mutables.PutSized(now, target, record, len(record), sourceOf(from))
		j.put(now, kindMutable, target[:], appendRecord(nil, record, from))
		s.admit(now, refreshEntry{topic: hash(target[:1]), key: target}, from)
		s.admit(now, refreshEntry{topic: hash(target[:]), key: target, self: true}, from)
		s.bump(now, target, 1, from)
		if i%500 == 499 {
			flush()
		}
	}
	for i := range n {
		add(i, testNow)
	}
	flush()
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := (after.HeapAlloc - before.HeapAlloc) >> 20
	t.Logf("%d MB of heap, %d MB of file", heap, db.Stats().FileSize>>20)
	if s.immutables.Len() != n || s.mutables.Len() != n || s.routes.forwards.Len() != n || s.bumps.Len() != n {
		t.Errorf("%d immutable, %d mutable, %d routes", s.immutables.Len(), s.mutables.Len(), s.routes.forwards.Len())
	}
	if heap > 150 || db.Stats().FileSize > 200<<20 {
		t.Errorf("%d MB of heap, %d MB of file", heap, db.Stats().FileSize>>20)
	}
	// A day of churn, 4,200 new records of each kind an hour.
	now := testNow
	for i := n; i < 3*n; i++ {
		now = now.Add(24 * time.Hour / (2 * n))
		add(i, now)
	}
	s.expire(now)
	flush()
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap = (after.HeapAlloc - before.HeapAlloc) >> 20
	t.Logf("after a day of churn %d MB of heap, %d MB of file, %d entries in it", heap, db.Stats().FileSize>>20, db.Stats().Entries)
	if s.immutables.Len() != DefaultStoreRecords || s.mutables.Stats().Bytes < DefaultRecordBytes-1000 || s.routes.forwards.Len() > DefaultStoreEntries {
		t.Errorf("caps: %d immutable, %+v mutable, %d routes", s.immutables.Len(), s.mutables.Stats(), s.routes.forwards.Len())
	}
	if heap > 150 || db.Stats().FileSize > 200<<20 {
		t.Errorf("%d MB of heap, %d MB of file", heap, db.Stats().FileSize>>20)
	}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		for _, line := range bytes.Split(b, []byte("\n")) {
			if bytes.HasPrefix(line, []byte("Rss")) || bytes.HasPrefix(line, []byte("VmRSS")) {
				t.Logf("%s", line)
			}
		}
	}
}
