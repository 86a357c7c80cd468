package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"os"
)

// This file reads a bbolt database page by page with plain reads. bbolt itself
// trusts its file: a damaged one makes it panic in goroutines of its own, fault
// on the memory map, or overwrite pages that a damaged list calls free. So a
// file is walked through once, completely, before bbolt may have it. (And it
// does not then lie in our memory map from the first to the last page.)
//
//	page:    id (8) | flags (2) | count (2) | overflow pages (4) | elements
//	meta:    magic (4) | version (4) | page size (4) | flags (4) | root (8) | sequence (8) |
//	         freelist (8) | pages (8) | transaction (8) | FNV-1a of the above (8)
//	branch:  position (4) | key size (4) | page (8), a child each
//	leaf:    flags (4) | position (4) | key size (4) | value size (4), an entry each
//	bucket:  root (8) | sequence (8) | the page itself if root is 0; value of a leaf entry with flag 1
//
// Numbers are in the machine's byte order, positions count from the element.

const (
	pageHeader = 16
	elementLen = 16
	metaLen    = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)
	maxDepth    = 32
)

var order = binary.NativeEndian

// A walker walks through a database file.
type walker struct {
	file     *os.File
	pageSize int64
	pages    uint64   // the high water mark: ids are below
	seen     []uint64 // a bit a page
	each     func(bucket string, key, value []byte) error
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// walk checks the file's structure and calls each for every entry of its
// buckets. Slices are valid until each returns.
func (db *DB) walk(each func(bucket string, key, value []byte) error) error {
	f, err := os.Open(db.path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &walker{file: f, each: each}
	m, err := w.meta()
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if m.pages < 4 || m.pages > uint64(info.Size()/w.pageSize) {
		return damaged("%d pages of %d bytes do not fit into the file's %d bytes", m.pages, w.pageSize, info.Size())
	}
	w.pages = m.pages
	w.seen = make([]uint64, m.pages/64+1)
	if err := w.page(m.root, "", 0); err != nil {
		return err
	}
	return w.freelist(m.freelist)
}

type boltMeta struct{ root, freelist, pages, tx uint64 }

// meta returns the latest valid meta page: there are two, written in turn.
func (w *walker) meta() (best boltMeta, err error) {
	for i := range int64(2) {
		// The second stands one page on, and how long that is the first tells.
		// If the first is damaged, try the sizes that there are.
		for size := int64(1 << 9); size <= 1<<16; size <<= 1 {
			b := make([]byte, pageHeader+metaLen)
			if _, err := w.file.ReadAt(b, i*size); err != nil {
				continue
			}
			m, pageSize, ok := parseMeta(b)
			if !ok || pageSize != size || w.pageSize != 0 && w.pageSize != size {
				continue
			}
			if order.Uint64(b) != uint64(i) || order.Uint16(b[8:]) != flagMeta { // bbolt does not look
				return best, damaged("head of page %d", i)
			}
			if w.pageSize == 0 || m.tx > best.tx {
				best, w.pageSize = m, size
			}
		}
	}
	if w.pageSize == 0 {
		return best, damaged("neither of the two first pages is valid")
	}
	return best, nil
}

func parseMeta(b []byte) (m boltMeta, pageSize int64, ok bool) {
	b = b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaLen-8])
	if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[metaLen-8:]) != sum.Sum64() {
		return m, 0, false
	}
	pageSize = int64(order.Uint32(b[8:]))
	m = boltMeta{root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
	return m, pageSize, bits.OnesCount64(uint64(pageSize)) == 1
}

// read returns a page that nobody else refers to, with its overflow.
func (w *walker) read(id uint64) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, damaged("page %d of %d", id, w.pages)
	}
	head := make([]byte, pageHeader)
	if _, err := w.file.ReadAt(head, int64(id)*w.pageSize); err != nil {
		return nil, err
	}
	overflow := uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != id || overflow >= w.pages-id {
		return nil, damaged("page %d says that it is page %d and %d more", id, order.Uint64(head), overflow)
	}
	for p := id; p <= id+overflow; p++ {
		if !w.mark(p) {
			return nil, damaged("page %d is used twice", p)
		}
	}
	b := make([]byte, (int64(overflow)+1)*w.pageSize)
	if _, err := w.file.ReadAt(b, int64(id)*w.pageSize); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// mark notes that a page is in use and reports whether it was free.
func (w *walker) mark(id uint64) bool {
	bit := uint64(1) << (id % 64)
	if w.seen[id/64]&bit != 0 {
		return false
	}
	w.seen[id/64] |= bit
	return true
}

func (w *walker) page(id uint64, bucket string, depth int) error {
	b, err := w.read(id)
	if err != nil {
		return err
	}
	if err := w.elements(b, bucket, depth); err != nil {
		return fmt.Errorf("%w (page %d)", err, id)
	}
	return nil
}

// elements walks through a page and what hangs below it.
func (w *walker) elements(b []byte, bucket string, depth int) error {
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if depth > maxDepth || flags != flagBranch && flags != flagLeaf || pageHeader+count*elementLen > len(b) {
		return damaged("flags %#x, %d elements, depth %d", flags, count, depth)
	}
	if flags == flagBranch && count == 0 {
		return damaged("a branch without children")
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementLen
		e := b[at:]
		var pos, keyLen, valueLen, child uint64
		var entryFlags uint32
		if flags == flagBranch {
			pos, keyLen, child = uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])), order.Uint64(e[8:])
		} else {
			entryFlags, pos = order.Uint32(e), uint64(order.Uint32(e[4:]))
			keyLen, valueLen = uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		}
		if pos < uint64((count-i)*elementLen) || uint64(at)+pos+keyLen+valueLen > uint64(len(b)) {
			return damaged("element %d lies outside", i)
		}
		key := b[uint64(at)+pos:][:keyLen]
		value := b[uint64(at)+pos+keyLen:][:valueLen]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return damaged("keys are not in order")
		}
		last = key
		var err error
		switch {
		case flags == flagBranch:
			err = w.page(child, bucket, depth+1)
		case entryFlags == 0:
			err = w.each(bucket, key, value)
		case entryFlags == 1 && bucket == "":
			err = w.bucket(string(key), value)
		default:
			err = damaged("element %d has flags %#x", i, entryFlags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket walks through a bucket, which is a tree of pages of its own or a small
// page inside the value.
func (w *walker) bucket(name string, value []byte) error {
	if len(value) < 16 || name == "" {
		return damaged("bucket %q", name)
	}
	if root := order.Uint64(value); root != 0 {
		return w.page(root, name, 0)
	}
	if value = value[16:]; len(value) < pageHeader || order.Uint16(value[8:]) != flagLeaf {
		return damaged("bucket %q", name)
	}
	return w.elements(value, name, 0)
}

// freelist checks that no page in use is called free.
func (w *walker) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}
	b, err := w.read(id)
	if err != nil {
		return err
	}
	count, list := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if count == 0xffff {
		count, list = order.Uint64(list), list[8:]
	}
	if order.Uint16(b[8:]) != flagFreelist || count > uint64(len(list)/8) {
		return damaged("page %d: list of free pages", id)
	}
	for i := range count {
		if p := order.Uint64(list[8*i:]); p < 2 || p >= w.pages || !w.mark(p) {
			return damaged("page %d is called free", p)
		}
	}
	return nil
}
