package dhtrpc1

import (
	"crypto/rand"
	"crypto/sha256"
	"net/netip"

	"github.com/warren-dht/warren/internal/token"
)

// newSecrets returns the secrets behind our round-trip tokens: valid for 5 to
// 10 minutes, bound to the IP address alone (docs/spec/dht-rpc-v2.md §5).
func newSecrets() *token.Secrets {
	return token.New(sha256.Size, secretPeriod, hashToken, func(b []byte) { rand.Read(b) })
}

// hashToken is SHA-256(secret ‖ ASCII dotted IPv4), as in 1.x and 2.x.
func hashToken(secret *[token.MaxSize]byte, ip netip.Addr) [token.MaxSize]byte {
	b := make([]byte, 0, token.MaxSize+len("255.255.255.255"))
	b = append(b, secret[:]...)
	return sha256.Sum256(ip.AppendTo(b))
}
