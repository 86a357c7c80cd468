// Package store keeps what a node stores for others, and the nodes it knows, in
// a file: an embedded database (bbolt) behind the small interface that the
// protocols ask for ([hyperdht.Store] and its like).
//
//	db, err := store.Open("/var/lib/warren")
//	...
//	defer db.Close()
//	node, err := hyperdht.New(hyperdht.Config{Store: db})
//
// The protocols hold everything in memory and answer from there; the file is
// read once, when a node starts. Afterwards it is only written, a batch of
// changes a transaction. When Commit has returned, the batch survives the end
// of the process, and a loss of power too if the disk keeps its promises.
//
// The database has one bucket of rows. A row's key is a number that grows, so
// that new rows fill pages one after the other, however random the keys of the
// entries are:
//
//	number (8, big endian) -> CRC-32C (4) | stamp, Unix nanoseconds of store time (8) |
//	                          length of kind (1) | kind | length of key (2) | key | value
//
// Store time is the protocols' own: it grows with each change, and may be behind
// the date. A protocol that loads its entries goes on from the newest stamp, so
// a stop of days and a clock that is wrong at the start make entries older by
// some minutes at most.
//
// The checksum covers the number and all that follows it. A row "state" holds
// the number of rows and the sum of their checksums, so that a row that is
// missing is noticed too.
//
// Left out on purpose: queries. A database is for one process and one node.
//
// [hyperdht.Store]: https://pkg.go.dev/github.com/warren-dht/warren/hyperdht#Store
package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/warren-dht/warren/internal/keep"
)

// FileName is the database's name in its directory.
const FileName = "warren.db"

// Errors of Open, Load and Commit.
var (
	// ErrDamaged means that the file is not what this package wrote. It is not
	// touched; move it away to start anew.
	ErrDamaged = errors.New("damaged")
	// ErrLocked means that another process has the database open.
	ErrLocked = errors.New("in use by another process")
	// ErrClosed means that the database is closed.
	ErrClosed = errors.New("store: closed")
	// ErrTooLarge means that a kind is longer than 255 bytes or a key than
	// 65,535.
	ErrTooLarge = errors.New("store: kind or key too long")
)

// Options change how a database is opened. The zero value is good.
type Options struct {
	// NoSync does not force changes to the disk: they survive the end of the
	// process, but not a loss of power.
	NoSync bool
}

// A DB is an open database. Safe for concurrent use.
type DB struct {
	path string

	mu     sync.Mutex // guards everything below
	bolt   *bbolt.DB  // nil when closed
	rows   map[entryID]uint64
	next   uint64 // number of the next new row
	state  state
	counts Stats

	touched int // changes since the last release
}

// Stats says what is in a database and what happened to it since it was opened.
type Stats struct {
	Entries  int
	FileSize int64
	Commits  uint64
	Changes  uint64
}

// An entryID stands for the kind and key of an entry: two hashes of them, with
// seeds of this process.
type entryID [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func idOf(kind string, key []byte) (id entryID) {
	for i, seed := range seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		h.WriteByte(byte(len(kind)))
		h.WriteString(kind)
		h.Write(key)
		id[i] = h.Sum64()
	}
	return id
}

var (
	rowsBucket = []byte("rows")
	metaBucket = []byte("meta")
	stateKey   = []byte("state")
)

// Open opens the database in a directory, and makes both if need be. It reads
// the whole file and checks it. The error names the file; it matches ErrDamaged,
// ErrLocked, or an error of package fs.
func Open(dir string, o Options) (*DB, error) {
	path := filepath.Join(dir, FileName)
	db, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", path, err)
	}
	return db, nil
}

func open(path string, o Options) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() == 0: // bbolt would try to make a database of it
		return nil, damaged("the file is empty")
	}
	// A reader's lock keeps other processes from writing while we check. Opening
	// for reading looks at nothing but the first two pages.
	reader, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return nil, explain(err)
	}
	db := &DB{path: path, rows: make(map[entryID]uint64)}
	err = db.check()
	reader.Close()
	if err != nil {
		return nil, err
	}
	db.bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockTimeout,
		NoSync:       o.NoSync,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
	})
	if err != nil {
		return nil, explain(err)
	}
	db.bolt.AllocSize = allocSize
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		if now, err := parseState(tx.Bucket(metaBucket).Get(stateKey)); err != nil || now != db.state {
			return ErrLocked // somebody wrote since we checked
		}
		return nil
	})
	if err != nil {
		db.bolt.Close()
		return nil, err
	}
	return db, nil
}

// releaseEvery is after how many changes the pages that they touched are given
// back.
const releaseEvery = 4096

// lockTimeout is how long Open waits for another process to close the database.
const lockTimeout = time.Second

// explain tells what an error of bbolt's Open means.
func explain(err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return ErrLocked
	case errors.As(err, new(syscall.Errno)): // the system's, about the file, not in it
		return err
	}
	return fmt.Errorf("%w: %v", ErrDamaged, err)
}

// create makes an empty database unless somebody else has just done so. It has
// a name of its own until it is complete.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), FileName+".*.new")
	if err != nil {
		return err
	}
	f.Close()
	defer os.Remove(f.Name())
	bolt, err := bbolt.Open(f.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	err = bolt.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(rowsBucket); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return meta.Put(stateKey, state{}.append(nil))
	})
	if e := bolt.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(f.Name(), path); err != nil { // the file system knows no links
			return err
		}
	}
	syncDir(filepath.Dir(path))
	return nil
}

// syncDir makes a new name durable, where the system can.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// check walks through the whole file and builds the index of rows.
func (db *DB) check() error {
	found := state{}
	var stored state
	err := db.walk(func(bucket string, key, value []byte) error {
		switch bucket {
		case string(metaBucket):
			if string(key) == string(stateKey) {
				var err error
				stored, err = parseState(value)
				return err
			}
		case string(rowsBucket):
			r, err := parseRow(key, value)
			if err != nil {
				return err
			}
			id := idOf(r.kind, r.key)
			if _, twice := db.rows[id]; twice {
				return fmt.Errorf("%w: an entry is there twice", ErrDamaged)
			}
			db.rows[id] = r.number
			db.next = max(db.next, r.number+1)
			found.add(r.sum)
		}
		return nil
	})
	if err == nil && found != stored {
		err = fmt.Errorf("%w: %d rows found, %d expected", ErrDamaged, found.rows, stored.rows)
	}
	db.state = stored
	return err
}

// Load implements the protocols' Store.
func (db *DB) Load(each func(keep.Change) error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.bolt == nil {
		return ErrClosed
	}
	err := db.walk(func(bucket string, key, value []byte) error {
		if bucket != string(rowsBucket) {
			return nil
		}
		r, err := parseRow(key, value)
		if err != nil {
			return err
		}
		return each(keep.Change{Op: keep.OpPut, Kind: r.kind, Key: r.key, Value: r.value, Stamp: r.stamp})
	})
	if err != nil {
		return fmt.Errorf("store: %s: %w", db.path, err)
	}
	return nil
}

// Commit implements the protocols' Store.
func (db *DB) Commit(changes []keep.Change) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.bolt == nil {
		return ErrClosed
	}
	if len(changes) == 0 {
		return nil
	}
	b := batch{db: db, state: db.state, next: db.next, fresh: map[entryID]uint64{}}
	err := db.bolt.Update(func(tx *bbolt.Tx) error {
		b.rows = tx.Bucket(rowsBucket)
		b.rows.FillPercent = fillPercent
		for i := range changes {
			if err := b.apply(&changes[i]); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(stateKey, b.state.append(nil))
	})
	if err != nil {
		if errors.Is(err, ErrTooLarge) {
			return err
		}
		return fmt.Errorf("store: %s: %w", db.path, err)
	}
	for id, number := range b.fresh {
		if number == removed {
			delete(db.rows, id)
		} else {
			db.rows[id] = number
		}
	}
	db.state, db.next = b.state, b.next
	db.counts.Commits++
	db.counts.Changes += uint64(len(changes))
	if db.touched += len(changes); db.touched >= releaseEvery {
		db.touched = 0
		release(db.bolt)
	}
	return nil
}

// Stats returns the counters.
func (db *DB) Stats() Stats {
	db.mu.Lock()
	defer db.mu.Unlock()
	s := db.counts
	s.Entries = int(db.state.rows)
	if info, err := os.Stat(db.path); err == nil {
		s.FileSize = info.Size()
	}
	return s
}

// Close closes the database. Only the first call has an effect.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.bolt == nil {
		return nil
	}
	bolt := db.bolt
	db.bolt = nil
	return bolt.Close()
}
