package natlab

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Lab is a laboratory. It belongs to one test and is gone after it. Its methods
// fail that test when the system refuses something, and are for the goroutine
// that runs it; hosts may be used by several.
type Lab struct {
	t      testing.TB
	prefix string // of the names of this laboratory's namespaces
	core   string // the namespace of the internet
	ends   int    // what hangs on the core so far
}

var labs atomic.Int64 // made by this process

// New returns a laboratory with nothing but the core in it. It skips the test
// where there are no means to build one, unless WARREN_TEST_ALL=1.
func New(t testing.TB) *Lab {
	t.Helper()
	if why := missing(); why != "" {
		if os.Getenv("WARREN_TEST_ALL") == "1" {
			t.Fatal("the NAT laboratory needs " + why)
		}
		t.Skip("the NAT laboratory needs " + why)
	}
	sweep()
	l := &Lab{t: t, prefix: fmt.Sprintf("warren%d-%d-", os.Getpid(), labs.Add(1))}
	l.core = l.namespace("core")
	l.SetLoss(0)
	return l
}

// missing says what a laboratory needs and this process does not have.
var missing = sync.OnceValue(func() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "the program " + tool
		}
	}
	name := fmt.Sprintf("warren%d-try", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return "the right to make network namespaces: " + strings.TrimSpace(string(out))
	}
	defer exec.Command("ip", "netns", "del", name).Run()
	nft := exec.Command("ip", "netns", "exec", name, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules(Random, netip.AddrFrom4([4]byte{61, 0, 0, 2}), netip.Addr{}))
	if out, err := nft.CombinedOutput(); err != nil {
		return "a kernel with nftables and NAT: " + strings.TrimSpace(string(out))
	}
	return ""
})

// sweep removes the namespaces of processes that died before they could.
func sweep() {
	list, _ := os.ReadDir("/run/netns")
	for _, e := range list {
		var pid int
		if k, _ := fmt.Sscanf(e.Name(), "warren%d-", &pid); k != 1 || pid == os.Getpid() {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, os.ErrNotExist) {
			exec.Command("ip", "netns", "del", e.Name()).Run()
		}
	}
}

// namespace makes a network namespace that forwards packets.
func (l *Lab) namespace(name string) string {
	l.t.Helper()
	name = l.prefix + name
	l.run("", "ip", "netns", "add", name)
	l.t.Cleanup(func() { l.run("", "ip", "netns", "del", name) })
	l.in(name, "ip", "link", "set", "lo", "up")
	err := enter(name, func() error {
		for _, set := range []string{"ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"} {
			file, value, _ := strings.Cut(set, "=")
			if err := os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return name
}

// join connects interface a of namespace x with b of y.
func (l *Lab) join(x, a, y, b string) {
	l.t.Helper()
	l.run("", "ip", "link", "add", a, "netns", x, "type", "veth", "peer", "name", b, "netns", y)
	l.in(x, "ip", "link", "set", a, "up")
	l.in(y, "ip", "link", "set", b, "up")
}

// address gives an interface an address with its network.
func (l *Lab) address(ns, dev string, addr netip.Addr, bits int) {
	l.t.Helper()
	l.in(ns, "ip", "addr", "add", netip.PrefixFrom(addr, bits).String(), "dev", dev)
}

// in runs a program in a namespace.
func (l *Lab) in(ns, name string, args ...string) {
	l.t.Helper()
	l.run("", "ip", append([]string{"netns", "exec", ns, name}, args...)...)
}

// nft loads rules into a namespace.
func (l *Lab) nft(ns, rules string) {
	l.t.Helper()
	if rules != "" {
		l.run(rules, "ip", "netns", "exec", ns, "nft", "-f", "-")
	}
}

func (l *Lab) run(stdin, name string, args ...string) {
	l.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, stdin, bytes.TrimSpace(out))
	}
}

// SetLoss makes the core drop so many UDP datagrams in a hundred.
func (l *Lab) SetLoss(percent int) {
	l.t.Helper()
	l.nft(l.core, coreRules(percent))
}

// end reserves the networks of something that hangs on the core: public(0, i) is
// its address i on the link to the core, which is .1 there; public(1, i) are those
// of hosts behind it, private(n, i) those of its private network n.
type end struct{ n int }

func (l *Lab) end() end {
	l.t.Helper()
	l.ends++
	if l.ends > 39 {
		l.t.Fatal("the laboratory is full")
	}
	return end{l.ends}
}

func (e end) public(net, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(59 + e.n), 0, byte(net), byte(i)})
}

func (e end) private(net, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(e.n), byte(net), byte(i)})
}

// attach connects interface dev of a namespace to the core.
func (l *Lab) attach(e end, ns, dev string) {
	l.t.Helper()
	port := fmt.Sprintf("port%d", e.n)
	l.join(l.core, port, ns, dev)
	l.address(l.core, port, e.public(0, 1), 24)
	l.address(ns, dev, e.public(0, 2), 24)
	l.in(ns, "ip", "route", "add", "default", "via", e.public(0, 1).String())
}

// Public adds a host right on the internet with n addresses, up to 250. The first
// such host has 60.0.0.2 and the following ones.
func (l *Lab) Public(n int) *Host {
	l.t.Helper()
	e := l.end()
	ns := l.namespace(fmt.Sprintf("public%d", e.n))
	l.attach(e, ns, "eth0")
	h := &Host{lab: l, ns: ns}
	for i := range n {
		if i > 0 {
			l.address(ns, "eth0", e.public(0, 2+i), 24)
		}
		h.addrs = append(h.addrs, e.public(0, 2+i))
	}
	return h
}

// Host adds a host behind a new box of the class.
func (l *Lab) Host(c Class) *Host {
	l.t.Helper()
	return l.Box(c).Host()
}
