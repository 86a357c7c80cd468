package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/internal/keep"
)

var t0 = time.Unix(1_700_000_000, 123)

func put(kind, key, value string, at time.Time) keep.Change {
	return keep.Change{Op: keep.OpPut, Kind: kind, Key: []byte(key), Value: []byte(value), Stamp: at}
}

func mustOpen(t testing.TB, dir string) *DB {
	t.Helper()
	db, err := Open(dir, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// contents are all entries as kind/key=value@stamp.
func contents(t testing.TB, db *DB) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := db.Load(func(c keep.Change) error {
		out[c.Kind+"/"+string(c.Key)] = fmt.Sprintf("%s@%d", c.Value, c.Stamp.UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCommitAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "Open")
	db := mustOpen(t, dir)
	err := db.Commit([]keep.Change{
		put("a", "1", "one", t0), put("a", "2", "two", t0), put("b", "1", "other kind", t0), put("b", "", "", t0),
		{Op: keep.OpRenew, Kind: "a", Key: []byte("1"), Stamp: t0.Add(1)},
		{Op: keep.OpRemove, Kind: "a", Key: []byte("2")},
		{Op: keep.OpRemove, Kind: "a", Key: []byte("never there")},
		{Op: keep.OpRenew, Kind: "a", Key: []byte("2"), Stamp: t0},
		put("b", "1", "replaced", t0.Add(2)),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a/1": fmt.Sprintf("one@%d", t0.Add(1).UnixNano()),
		"b/1": fmt.Sprintf("replaced@%d", t0.Add(2).UnixNano()),
		"b/":  fmt.Sprintf("@%d", t0.UnixNano()),
	}
	for range 3 {
		if diff := cmp.Diff(want, contents(t, db)); diff != "" {
			t.Error(diff)
		}
		db.Close()
		db = mustOpen(t, dir)
	}
	if s := db.Stats(); s.Entries != 3 || s.FileSize == 0 {
		t.Errorf("%+v", s)
	}
	if err := db.Commit([]keep.Change{put(strings.Repeat("k", 256), "", "", t0)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	db.Close()
	if err := db.Commit([]keep.Change{put("a", "1", "", t0)}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := db.Load(nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// TestModel makes random commits, reopening now and then, and compares with a map.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for round := range 60 {
		var changes []keep.Change
		for range rnd.IntN(200) {
			kind, key := string('a'+rune(rnd.IntN(3))), strconv.Itoa(rnd.IntN(300))
			at := t0.Add(time.Duration(rnd.IntN(1000)))
			id := kind + "/" + key
			switch rnd.IntN(4) {
			case 0:
				changes = append(changes, keep.Change{Op: keep.OpRemove, Kind: kind, Key: []byte(key)})
				delete(model, id)
			case 1:
				changes = append(changes, keep.Change{Op: keep.OpRenew, Kind: kind, Key: []byte(key), Stamp: at})
				if old, ok := model[id]; ok {
					value, _, _ := strings.Cut(old, "@")
					model[id] = fmt.Sprintf("%s@%d", value, at.UnixNano())
				}
			default:
				value := strings.Repeat("v", rnd.IntN(2000))
				changes = append(changes, put(kind, key, value, at))
				model[id] = fmt.Sprintf("%s@%d", value, at.UnixNano())
			}
		}
		if err := db.Commit(changes); err != nil {
			t.Fatal(err)
		}
		if round%7 == 0 {
			db.Close()
			db = mustOpen(t, dir)
		}
		if got := contents(t, db); !maps.Equal(got, model) {
			t.Fatalf("round %d: %d entries, model has %d", round, len(got), len(model))
		}
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

// fill makes a database with entries and returns the file's bytes and contents.
func fill(t testing.TB, dir string, n int) ([]byte, map[string]string) {
	t.Helper()
	db := mustOpen(t, dir)
	var changes []keep.Change
	for i := range n {
		changes = append(changes, put("kind", strconv.Itoa(i), strings.Repeat("x", 300), t0))
	}
	if err := db.Commit(changes); err != nil {
		t.Fatal(err)
	}
	for i := range n / 2 { // leaves free pages
		if err := db.Commit([]keep.Change{{Op: keep.OpRemove, Kind: "kind", Key: []byte(strconv.Itoa(2 * i))}}); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, db)
	db.Close()
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return b, want
}

// A damaged file is refused with a clear error, whatever is damaged, or it makes
// no difference; and bbolt, which would not survive it, does not see it.
func TestDamagedFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	good, want := fill(t, dir, 120)
	path := filepath.Join(dir, FileName)
	rnd := rand.New(rand.NewPCG(3, 4))
	refused := 0
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(dir, Options{NoSync: true})
		if err != nil {
			if refused++; !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%s: %v", what, err)
			}
			after, _ := os.ReadFile(path)
			if !bytes.Equal(after, b) {
				t.Fatalf("%s: the file was touched", what)
			}
			return
		}
		defer db.Close()
		got := contents(t, db)
		if older := len(got) == len(want)+1; !older && !maps.Equal(got, want) { // the other meta page is the state before the last commit
			t.Fatalf("%s: passed with %d entries, want %d", what, len(got), len(want))
		}
		if err := db.Commit([]keep.Change{put("kind", "new", "value", t0)}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	try("untouched", good)
	if refused != 0 {
		t.Fatal("a good file was refused")
	}
	for range 1500 {
		b := bytes.Clone(good)
		at := rnd.IntN(len(b))
		b[at] ^= 1 << rnd.IntN(8)
		try(fmt.Sprintf("bit in byte %d", at), b)
	}
	for range 200 { // page headers and element tables are where it hurts
		b := bytes.Clone(good)
		page := 4096 * rnd.IntN(len(b)/4096)
		at := page + rnd.IntN(64)
		b[at] ^= byte(1 + rnd.IntN(255))
		try(fmt.Sprintf("byte %d", at), b)
	}
	for range 50 {
		try("cut short", good[:rnd.IntN(len(good))])
	}
	for range 50 {
		b := bytes.Clone(good)
		copy(b[4096*rnd.IntN(len(b)/4096):], b[4096*rnd.IntN(len(b)/4096):][:4096])
		try("a page twice", b)
	}
	try("nothing", nil)
	try("text", bytes.Repeat([]byte("not a database\n"), 5000))
	if refused < 300 {
		t.Errorf("only %d damaged files refused", refused)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(contents(t, mustOpen(t, dir)), want) {
		t.Error("the good file, put back, differs")
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	good, _ := fill(f, dir, 20)
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint32(8192+16), bytes.Repeat([]byte{0xff}, 16))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(good)
		copy(b[int(at)%len(b):], patch)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(dir, Options{NoSync: true})
		if err != nil {
			return
		}
		contents(t, db)
		db.Close()
	})
}

// TestMain serves as the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("WARREN_STORE_VICTIM"); dir != "" {
		if addr := os.Getenv("WARREN_STORE_NODE"); addr != "" {
			victimNode(dir, addr)
		} else {
			victim(dir)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim commits for ever, and says so after each commit. Keys are numbers that
// grow; the older half is removed on the way.
func victim(dir string) {
	db, err := Open(dir, Options{NoSync: true})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	first := 0
	db.Load(func(c keep.Change) error {
		n, _ := strconv.Atoi(string(c.Key))
		first = max(first, n+1)
		return nil
	})
	for n := first; ; n += 10 {
		var changes []keep.Change
		for i := range 10 {
			changes = append(changes, put("n", strconv.Itoa(n+i), strings.Repeat("v", 400), t0))
			changes = append(changes, keep.Change{Op: keep.OpRemove, Kind: "n", Key: []byte(strconv.Itoa((n + i) / 2))})
		}
		if err := db.Commit(changes); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("ack", n+9)
	}
}

// The issue: "a node killed with SIGKILL at any moment comes back with every
// record that it had acknowledged".
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	acked := -1
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "WARREN_STORE_VICTIM="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		enough := rnd.IntN(120)
		for seen := 0; lines.Scan(); seen++ {
			what, rest, _ := strings.Cut(lines.Text(), " ")
			if what != "ack" {
				t.Fatalf("round %d: %s", round, lines.Text())
			}
			if acked, err = strconv.Atoi(rest); err != nil {
				t.Fatal(err)
			}
			if seen == enough {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		db := mustOpen(t, dir)
		got := contents(t, db)
		for n := (acked+10)/2 + 1; n <= acked; n++ { // a batch may be committed and not said to be
			if _, ok := got["n/"+strconv.Itoa(n)]; !ok {
				t.Fatalf("round %d: %d was acknowledged and is gone; %d is the last", round, n, acked)
			}
		}
		if len(got) < acked/2 || len(got) > acked/2+20 {
			t.Fatalf("round %d: %d entries after %d", round, len(got), acked)
		}
		db.Close()
	}
}

// What an attempt to create a database has left, because the power failed or the
// disk was full, is in nobody's way.
func TestUnfinishedCreate(t *testing.T) {
	for _, name := range []string{FileName + ".new", FileName + ".123.new"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 5000), 0o600); err != nil {
			t.Fatal(err)
		}
		db := mustOpen(t, dir)
		if err := db.Commit([]keep.Change{put("a", "1", "one", t0)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Of several that create a database at the same time one has it.
func TestCreatedByMany(t *testing.T) {
	dir := t.TempDir()
	var opened atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := Open(dir, Options{NoSync: true})
			switch {
			case err == nil:
				opened.Add(1)
				time.Sleep(3 * lockTimeout)
				db.Close()
			case !errors.Is(err, ErrLocked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 {
		t.Errorf("%d have it", opened.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What is wrong with the file, and not in it, is no damage.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func BenchmarkCommit100(b *testing.B) {
	db := mustOpen(b, b.TempDir())
	n := 0
	value := bytes.Repeat([]byte("v"), 500)
	for b.Loop() {
		var changes []keep.Change
		for range 100 {
			n++
			changes = append(changes, keep.Change{Op: keep.OpPut, Kind: "hyperdht.immutable", Key: fmt.Appendf(nil, "%032d", n), Value: value, Stamp: t0})
		}
		if err := db.Commit(changes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(db.Stats().FileSize)/float64(n), "bytes/entry")
}
