package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/noise"
)

// What send and receive say to each other over a connection:
//
//	sender                                      receiver
//	{"name":"photo.jpg","size":12345}\n
//	length 4, that many bytes   (any number)
//	length 0
//	                                            ok\n   once all is stored
//
// Lengths are big-endian, at most maxChunk. A size of -1 is not known.

const (
	maxHeader  = 4096
	maxChunk   = 1 << 16
	transferOK = "ok\n"
)

// A fileHeader is what a sender says of a file.
type fileHeader struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Both ends of a transfer have key pairs that follow from the one-time key that
// the sender shows: the listener lets in nobody else, although everybody can
// read in the DHT that it listens.
func transferKeys(key [32]byte) (sender, receiver noise.KeyPair) {
	derive := func(who string) noise.KeyPair {
		return noise.KeyPairFromSeed(blake2b.Sum256(append([]byte("warren transfer: "+who+": "), key[:]...)))
	}
	return derive("sender"), derive("receiver")
}

// writeFile sends a file.
func writeFile(w io.Writer, h fileHeader, r io.Reader) error {
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	chunk := make([]byte, 4+maxChunk)
	for {
		n, err := io.ReadFull(r, chunk[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(chunk, uint32(n))
			if _, err := w.Write(chunk[:4+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err := w.Write(make([]byte, 4))
			return err
		case err != nil:
			return err
		}
	}
}

// readHeader reads what writeFile sends first.
func readHeader(r *bufio.Reader) (h fileHeader, err error) {
	var line []byte
	for len(line) < maxHeader {
		b, err := r.ReadByte()
		if err != nil {
			return h, unexpected(err)
		}
		if b == '\n' {
			if err := json.Unmarshal(line, &h); err != nil || h.Size < -1 {
				return h, errors.New("the sender's header makes no sense")
			}
			return h, nil
		}
		line = append(line, b)
	}
	return h, errors.New("the sender's header is too long")
}

// tooLarge says that a file is larger than --max-size.
func tooLarge(limit int64) error {
	return fmt.Errorf("the file has more than %d bytes (--max-size)", limit)
}

// readFile reads the rest of a file, of at most limit bytes, and returns its size.
func readFile(w io.Writer, h fileHeader, r io.Reader, limit int64) (int64, error) {
	var size [4]byte
	total := int64(0)
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return total, unexpected(err)
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if n == 0 {
			break
		}
		if n > maxChunk || h.Size >= 0 && n > h.Size-total {
			return total, errors.New("the sender sends more than it said")
		}
		if n > limit-total {
			return total, tooLarge(limit)
		}
		total += n
		if _, err := io.CopyN(w, r, n); err != nil {
			return total, unexpected(err)
		}
	}
	if h.Size >= 0 && total != h.Size {
		return total, fmt.Errorf("the sender sent %d of %d bytes", total, h.Size)
	}
	return total, nil
}

// unexpected is an end that came too early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the sender has gone before the end: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// safeName makes a file name in the current directory of what a sender says:
// no folders, no hidden files, nothing unprintable, nothing that a command takes for
// an option, no device.
func safeName(name string) (string, error) {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || strings.ContainsRune(`:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	name = strings.TrimLeft(name, ".")
	if strings.HasPrefix(name, "-") {
		name = "_" + name[1:]
	}
	if name == "" || name == "/" || len(name) > 255 || !filepath.IsLocal(name) {
		return "", errors.New("the sender's file name is of no use; choose one with --output")
	}
	return name, nil
}
