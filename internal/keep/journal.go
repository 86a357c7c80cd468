package keep

import "time"

// A Store keeps entries through restarts. Package store has one in a file; the
// protocols decide what goes in.
type Store interface {
	// Load calls each once for every entry held, all of them OpPut, in no order.
	// Slices are valid until each returns. It stops at the first error and
	// returns it, or an error that says that the store is damaged.
	Load(each func(Change) error) error
	// Commit makes changes durable in their order, all or none. When it
	// returns nil they survive the end of the process, whatever ends it.
	Commit(changes []Change) error
}

// A Change is one step in the life of an entry.
type Change struct {
	Op    Op
	Kind  string // what it is: a short name, the same in all versions
	Key   []byte // unique within the kind
	Value []byte // of OpPut
	// Stamp is of OpPut and OpRenew: the entry's age begins here. It is store
	// time, see Clock: it grows with each change, and may be behind the date.
	Stamp time.Time
}

// An Op says what a change does.
type Op uint8

// The kinds of change.
const (
	OpPut    Op = iota // add an entry, or replace the one with this key
	OpRenew            // set the stamp of an entry, if there is one
	OpRemove           // remove an entry, if there is one
)

// A Journal collects changes for the next commit, and who waits for it. It
// belongs to one goroutine, like the stores whose changes it notes.
type Journal struct {
	limit   int // changes
	bytes   int // of their keys and values, at most
	held    int // of them now
	changes []Change
	waiting []func(error)
}

// NewJournal returns an empty journal that is full at so many changes, or when
// their keys and values have so many bytes.
func NewJournal(changes, bytes int) *Journal { return &Journal{limit: changes, bytes: bytes} }

// Add notes a change. The journal keeps its slices.
func (j *Journal) Add(c Change) {
	j.changes = append(j.changes, c)
	j.held += len(c.Key) + len(c.Value)
}

// Full reports whether so much is noted that nothing more should be admitted.
// (What must be noted nevertheless, such as removals, still is.)
func (j *Journal) Full() bool {
	return len(j.changes) >= j.limit || len(j.waiting) >= j.limit || j.held >= j.bytes
}

// Wait has a function called with the outcome of the next commit.
func (j *Journal) Wait(f func(error)) { j.waiting = append(j.waiting, f) }

// Take returns what was noted and who waits, and empties the journal.
func (j *Journal) Take() (changes []Change, waiting []func(error)) {
	changes, waiting = j.changes, j.waiting
	j.changes, j.waiting, j.held = nil, nil, 0
	return changes, waiting
}

// Len is the number of changes noted.
func (j *Journal) Len() int { return len(j.changes) }
