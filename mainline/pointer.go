package mainline

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"

	"github.com/warren-dht/warren/bencode"
)

// A Pointer names a torrent that its publisher may replace (BEP 46): the
// mutable item under Key and Salt holds the info-hash of the present one.
type Pointer struct {
	Key  []byte // an Ed25519 public key
	Salt []byte
}

const btpk = "urn:btpk:"

// ParseMagnet reads magnet:?xs=urn:btpk:<key in hex>&s=<salt in hex>.
func ParseMagnet(link string) (Pointer, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "magnet" {
		return Pointer{}, errors.New("mainline: not a magnet link")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Pointer{}, errors.New("mainline: not a magnet link")
	}
	for _, xs := range q["xs"] {
		digits, ok := strings.CutPrefix(xs, btpk)
		if !ok {
			continue
		}
		key, err := hex.DecodeString(digits)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return Pointer{}, errors.New("mainline: magnet link: not a public key")
		}
		salt, err := hex.DecodeString(q.Get("s"))
		if err != nil || len(salt) > MaxSalt {
			return Pointer{}, errors.New("mainline: magnet link: not a salt")
		}
		if len(salt) == 0 {
			salt = nil
		}
		return Pointer{key, salt}, nil
	}
	return Pointer{}, errors.New("mainline: magnet link without public key")
}

// String is the magnet link.
func (p Pointer) String() string {
	s := "magnet:?xs=" + btpk + hex.EncodeToString(p.Key)
	if len(p.Salt) > 0 {
		s += "&s=" + hex.EncodeToString(p.Salt)
	}
	return s
}

// Target is where the pointer's item is stored.
func (p Pointer) Target() ID { return MutableTarget(p.Key, p.Salt) }

// PointerValue is the value of a pointer's item: d2:ih20:<info-hash>e.
func PointerValue(infoHash ID) bencode.Raw {
	return append(bencode.AppendString([]byte("d2:ih"), infoHash.Bytes()), 'e')
}

// ParsePointerValue reads the info-hash out of a pointer's item.
func ParsePointerValue(value bencode.Raw) (infoHash ID, err error) {
	err = errors.New("mainline: the value is not a pointer to a torrent")
	r := bencode.NewReader(value)
	if !r.Dict() {
		return ID{}, err
	}
	for r.More() {
		if string(r.Key()) != "ih" {
			r.Skip()
			continue
		}
		if b, ok := r.Bytes(); ok {
			infoHash, err = MakeID(b)
		}
	}
	if r.Err() != nil {
		return ID{}, r.Err()
	}
	return infoHash, err
}
