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
	Kind  string    // what it is: a short name, the same in all versions
	Key   []byte    // unique within the kind
	Value []byte    // of OpPut
	Stamp time.Time // of OpPut and OpRenew: its age begins here
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
	limit   int
	changes []Change
	waiting []func(error)
}

// NewJournal returns an empty journal that is full at so many changes.
func NewJournal(limit int) *Journal { return &Journal{limit: limit} }

// Add notes a change. The journal keeps its slices.
func (j *Journal) Add(c Change) { j.changes = append(j.changes, c) }

// Full reports whether so much is noted that nothing more should be admitted.
// (What must be noted nevertheless, such as removals, still is.)
func (j *Journal) Full() bool { return len(j.changes) >= j.limit || len(j.waiting) >= j.limit }

// Wait has a function called with the outcome of the next commit.
func (j *Journal) Wait(f func(error)) { j.waiting = append(j.waiting, f) }

// Take returns what was noted and who waits, and begins anew.
func (j *Journal) Take() (changes []Change, waiting []func(error)) {
	changes, waiting = j.changes, j.waiting
	j.changes, j.waiting = nil, nil
	return changes, waiting
}

// Len is the number of changes noted.
func (j *Journal) Len() int { return len(j.changes) }
