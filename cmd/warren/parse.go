package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/noise"
)

// maxQuote is how much of a bad argument an error repeats.
const maxQuote = 80

func quote(s string) string {
	if len(s) > maxQuote {
		return strconv.Quote(s[:maxQuote]) + "..."
	}
	return strconv.Quote(s)
}

// parseHex32 reads 64 hex digits. What says where they stood.
func parseHex32(what, s string) (b [32]byte, err error) {
	d, err := hex.DecodeString(s)
	if err != nil || len(d) != len(b) {
		return b, usage("%s: %s is not 64 hex digits", what, quote(s))
	}
	return [32]byte(d), nil
}

// parseKey reads a public key: hex or z-base-32.
func parseKey(what, s string) (noise.PublicKey, error) {
	k, err := noise.ParsePublicKey(s)
	if err != nil {
		return k, usage("%s: %w", what, err)
	}
	return k, nil
}

// parsePeer reads the public key of somebody to connect to, which must be one
// that a handshake can use.
func parsePeer(what, s string) (noise.PublicKey, error) {
	k, err := parseKey(what, s)
	if err != nil {
		return k, err
	}
	if _, err := noise.GenerateKeyPair().DH(k); err != nil {
		return k, usage("%s: %s is no usable key: %w", what, quote(s), err)
	}
	return k, nil
}

// parseTopic reads a topic: 64 hex digits, or name:some words, which stands for
// the BLAKE2b hash of the words.
func parseTopic(what, s string) ([32]byte, error) {
	if words, ok := strings.CutPrefix(s, "name:"); ok {
		if words == "" {
			return [32]byte{}, usage("%s: %q names nothing", what, s)
		}
		return blake2b.Sum256([]byte(words)), nil
	}
	b, err := parseHex32(what, s)
	if err != nil {
		return b, usage("%s: %s is neither 64 hex digits nor name:some words", what, quote(s))
	}
	return b, nil
}

// parseHost reads an IPv4 address.
func parseHost(what, s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Unmap().Is4() {
		return ip, usage("%s: %s is not an IPv4 address", what, quote(s))
	}
	return ip.Unmap(), nil
}

// splitAddr reads host:port without looking the host up.
func splitAddr(what, s string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", 0, usage("%s: %s is not HOST:PORT", what, quote(s))
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, usage("%s: port of %s is not a number from 1 to 65535", what, quote(s))
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.Unmap().Is4() {
		return "", 0, usage("%s: %s is not IPv4, which is all that this network speaks", what, quote(s))
	}
	return host, uint16(n), nil
}

// resolveAddr reads host:port and looks the host's IPv4 address up.
func resolveAddr(ctx context.Context, what, s string) (netip.AddrPort, error) {
	host, port, err := splitAddr(what, s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s: %w", what, err)
		}
		ip = ips[0]
	}
	if ip = ip.Unmap(); ip.IsUnspecified() || ip.IsMulticast() {
		return netip.AddrPort{}, usage("%s: %s is no host's address", what, quote(s))
	}
	return netip.AddrPortFrom(ip, port), nil
}

// checkTCP refuses what is not HOST:PORT of a TCP service; both families will do,
// and port 0 if any port will.
func checkTCP(what, s string, anyPort bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return usage("%s: %s is not HOST:PORT", what, quote(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !anyPort {
		return usage("%s: port of %s is not a number from 1 to 65535", what, quote(s))
	}
	return nil
}

// parseBootstrap reads a list of HOST:PORT and IP@HOST:PORT, separated by
// commas; none is an empty list that is not nil.
func parseBootstrap(what, s string) ([]string, error) {
	list := []string{}
	if s == "none" {
		return list, nil
	}
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		rest := item
		if ip, after, ok := strings.Cut(item, "@"); ok {
			if _, err := parseHost(what, ip); err != nil {
				return nil, err
			}
			rest = after
		}
		if _, _, err := splitAddr(what, rest); err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}

// resolveBootstrap looks an entry of parseBootstrap up; the IP address in front,
// if there is one, is taken for good.
func resolveBootstrap(ctx context.Context, what, s string) (netip.AddrPort, error) {
	if ip, rest, ok := strings.Cut(s, "@"); ok {
		s = ip + rest[strings.LastIndexByte(rest, ':'):]
	}
	return resolveAddr(ctx, what, s)
}

// parseSize reads a number of bytes, with K, M, G or T behind it for powers of 1024.
func parseSize(what, s string) (int64, error) {
	number, unit := s, int64(1)
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			number, unit = s[:n-1], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return 0, usage("%s: %s is not a size, such as 4096, 500K or 2G", what, quote(s))
	}
	return n * unit, nil
}

// addrJSON is an address as JSON shows it.
type addrJSON struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

func addr(a netip.AddrPort) addrJSON { return addrJSON{a.Addr().Unmap().String(), a.Port()} }

// valueJSON is a byte string as JSON shows it: text where it is valid text,
// else hex. Both are absent if there is none.
type valueJSON struct {
	Value    *string `json:"value,omitempty"`
	ValueHex *string `json:"valueHex,omitempty"`
}

func value(b []byte) (v valueJSON) {
	switch {
	case b == nil:
	case utf8.Valid(b):
		s := string(b)
		v.Value = &s
	default:
		s := hex.EncodeToString(b)
		v.ValueHex = &s
	}
	return v
}

// valueText is a byte string on a line for people.
func valueText(b []byte) string {
	if b == nil {
		return "-"
	}
	if utf8.Valid(b) && !strings.ContainsFunc(string(b), func(r rune) bool { return !strconv.IsPrint(r) }) {
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}

// optionalAddr is addr, nil of no address.
func optionalAddr(a netip.AddrPort) *addrJSON {
	if !a.IsValid() {
		return nil
	}
	j := addr(a)
	return &j
}

// readValue returns an argument's bytes, or stdin's if it is "-".
func (a *app) readValue(ctx context.Context, arg string, limit int) ([]byte, error) {
	if arg != "-" {
		if len(arg) > limit {
			return nil, usage("VALUE: %d bytes are more than the %d that fit", len(arg), limit)
		}
		return []byte(arg), nil
	}
	var b []byte
	read := make(chan error, 1)
	go func() {
		var err error
		b, err = io.ReadAll(io.LimitReader(a.stdin, int64(limit)+1))
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			return nil, fmt.Errorf("stdin: %w", err)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("stdin: %w", context.Cause(ctx))
	}
	if len(b) > limit {
		return nil, usage("stdin: more than the %d bytes that fit", limit)
	}
	return b, nil
}
