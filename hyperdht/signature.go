package hyperdht

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
)

// ErrBadSignature says that a record or announcement is not signed by its key.
var ErrBadSignature = errors.New("hyperdht: bad signature")

// sign makes an Ed25519 signature with a key that may live anywhere.
func sign(signer crypto.Signer, message []byte) (sig [64]byte, err error) {
	b, err := signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		return sig, fmt.Errorf("hyperdht: signing: %w", err)
	}
	if len(b) != len(sig) {
		return sig, fmt.Errorf("hyperdht: signer returned %d bytes, an Ed25519 signature has 64", len(b))
	}
	return [64]byte(b), nil
}
