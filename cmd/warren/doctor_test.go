package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/vnet"
)

// seen is a diagnosis by two nodes that see a socket at these addresses.
func seen(mapping nat.Mapping, class nat.Class, translated bool, at ...string) (d hyperdht.Diagnosis) {
	d.Mapping = hyperdht.MappingFinding{Known: len(at) > 1, Mapping: mapping, Class: class, Translated: translated}
	for i, s := range at {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, 0, byte(i)}), 1)
		d.Mapping.Views = append(d.Mapping.Views, hyperdht.View{From: from, To: netip.MustParseAddrPort(s)})
	}
	d.Answered = len(at)
	d.Firewalled = true
	return d
}

// What is said about a diagnosis, and whether it comes with advice.
func TestJudgements(t *testing.T) {
	const independent, symmetric = nat.EndpointIndependentMapping, nat.AddressAndPortDependentMapping
	cone := seen(independent, nat.Consistent, true, "60.0.0.1:7", "60.0.0.1:7")
	random := seen(symmetric, nat.Random, true, "60.0.0.1:7", "60.0.0.1:8")
	with := func(d hyperdht.Diagnosis, change func(*hyperdht.Diagnosis)) hyperdht.Diagnosis {
		change(&d)
		return d
	}
	local := []netip.AddrPort{netip.MustParseAddrPort("192.168.1.2:5")}
	carrier := []netip.AddrPort{netip.MustParseAddrPort("100.64.0.9:5")}
	loopback := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5")}
	mtu := func(n int) hyperdht.Diagnosis {
		return hyperdht.Diagnosis{MTU: hyperdht.MTUFinding{Known: true, MTU: n}}
	}
	filter := func(f nat.Filtering) hyperdht.Diagnosis {
		return hyperdht.Diagnosis{Filtering: hyperdht.FilteringFinding{Known: true, Filtering: f}}
	}
	for _, tt := range []struct {
		name   string
		judge  func(hyperdht.Diagnosis) finding
		in     hyperdht.Diagnosis
		says   string
		advice string
	}{
		{"no view", judgeMapping, hyperdht.Diagnosis{}, "not known", ""},
		{"one view", judgeMapping, seen(0, nat.Unknown, true, "60.0.0.1:7"), "not known", ""},
		{"own address", judgeMapping, seen(independent, nat.Open, false, "60.0.0.1:7", "60.0.0.1:7"), "our own address 60.0.0.1", ""},
		{"cone", judgeMapping, cone, "one address, 60.0.0.1 with another port", ""},
		{"port kept", judgeMapping, with(cone, func(d *hyperdht.Diagnosis) { d.Mapping.PortKept = true }), "the same port", ""},
		{"symmetric", judgeMapping, random, "symmetric", "--relay-through"},

		{"filter unknown", judgeFiltering, hyperdht.Diagnosis{}, "not known", ""},
		{"all come in", judgeFiltering, filter(nat.EndpointIndependentFiltering), "everybody", ""},
		{"hosts", judgeFiltering, filter(nat.AddressDependentFiltering), "only hosts", ""},
		{"ports", judgeFiltering, filter(nat.AddressAndPortDependentFiltering), "addresses and ports", ""},

		{"hairpin unknown", judgeHairpin, cone, "not known", ""},
		{"no NAT", judgeHairpin, hyperdht.Diagnosis{Hairpin: hyperdht.HairpinFinding{Known: true, Works: true}}, "not needed", ""},
		{"hairpin", judgeHairpin, with(cone, func(d *hyperdht.Diagnosis) { d.Hairpin.Known, d.Hairpin.Works = true, true }), "works", ""},
		{"no hairpin", judgeHairpin, with(cone, func(d *hyperdht.Diagnosis) { d.Hairpin.Known, d.Local = true, local }), "local addresses instead", ""},
		{"no way within", judgeHairpin, with(cone, func(d *hyperdht.Diagnosis) { d.Hairpin.Known, d.Local = true, loopback }), "no local address", "--host"},

		{"MTU unknown", judgeMTU, hyperdht.Diagnosis{}, "not known", ""},
		{"Ethernet", judgeMTU, mtu(1500), "1500 bytes or more", ""},
		{"PPPoE", judgeMTU, mtu(1492), "1492 bytes: a tunnel", ""},
		{"little", judgeMTU, mtu(1228), "enough", ""},
		{"too little", judgeMTU, mtu(1227), "1227 bytes", "1280"},

		{"none", judgeLocal, hyperdht.Diagnosis{}, "none", "firewall"},
		{"LAN", judgeLocal, hyperdht.Diagnosis{Local: local}, "192.168.1.2:5", ""},
		{"loopback", judgeLocal, hyperdht.Diagnosis{Local: loopback}, "only loopback", ""},

		{"nothing known", judgeAddress, hyperdht.Diagnosis{Firewalled: true}, "not known", ""},
		{"open", judgeAddress, with(cone, func(d *hyperdht.Diagnosis) {
			d.Firewalled, d.Public = false, netip.MustParseAddrPort("60.0.0.1:9")
		}), "60.0.0.1:9, open", ""},
		{"punchable", judgeAddress, cone, "peers punch through", ""},
		{"hard", judgeAddress, random, "need a relay", ""},
		{"carrier", judgeAddress, with(cone, func(d *hyperdht.Diagnosis) { d.Local = carrier }), "carrier's NAT", ""},
	} {
		f := tt.judge(tt.in)
		if !strings.Contains(f.detail, tt.says) || (f.advice != "") != (tt.advice != "") || !strings.Contains(f.advice, tt.advice) {
			t.Errorf("%s: says %q, advises %q, want %q and %q", tt.name, f.detail, f.advice, tt.says, tt.advice)
		}
	}
}

func TestWhyNobodyAnswers(t *testing.T) {
	loopback, lan := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.168.1.2")
	for _, tt := range []struct {
		resolved int
		own      []netip.Addr
		want     string
	}{
		{0, nil, "is the network up"},
		{1, []netip.Addr{loopback, netip.MustParseAddr("fe80::1")}, "no IPv4 address"},
		{0, []netip.Addr{loopback, lan}, "DNS"},
		{3, []netip.Addr{loopback, lan}, "UDP is blocked"},
	} {
		if got := whyNobodyAnswers(tt.resolved, tt.own); !strings.Contains(got, tt.want) {
			t.Errorf("%d names, addresses %v: %q, want %q", tt.resolved, tt.own, got, tt.want)
		}
	}
}

type findingLine struct {
	Check, Detail, Advice string
	OK                    bool
	Ms                    *float64
	Facts                 struct {
		Mapping, Class, Filtering, Reach string
		Hairpin                          bool
		MTU                              int
		Addresses                        []hostPort
		Cause, Path                      string
		Found, Answered                  bool
		Handshakes, Paths                []struct{ Path, Error string }
		Punch                            *struct {
			Local, Remote string
			Sent          int
		}
	}
}

// virtually runs doctor on a host of a virtual internet.
func virtually(t *testing.T, net *hyperdhttest.Network, h *vnet.Host, checks []check, key hyperdht.PublicKey) (map[string]findingLine, error) {
	t.Helper()
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: io.Discard, json: true, log: slog.New(slog.DiscardHandler)}
	cfg := nodeConfig{Config: net.Config(hyperdht.Config{Network: h})}
	err := a.doctor(t.Context(), &patient{app: a, cfg: cfg, key: key}, checks)
	found := map[string]findingLine{}
	for line := range strings.Lines(out.String()) {
		var f findingLine
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Ms == nil || f.Detail == "" && f.OK {
			t.Errorf("%s", line)
		}
		found[f.Check] = f
	}
	return found, err
}

// Behind each kind of router doctor says what the router does.
func TestDoctorBehindRouters(t *testing.T) {
	behind := func(cfg vnet.NAT) func(*vnet.Network) *vnet.Host {
		return func(n *vnet.Network) *vnet.Host { return n.NAT(cfg).Host() }
	}
	hairpin := vnet.Cone
	hairpin.Hairpin = true
	for _, tt := range []struct {
		name                             string
		host                             func(*vnet.Network) *vnet.Host
		mapping, filtering, class, reach string
		hairpin                          bool
		mtu                              int
		advised                          string // checks that come with advice
	}{
		{"open", func(n *vnet.Network) *vnet.Host { return n.Host() },
			"endpoint-independent", "endpoint-independent", "open", "open", true, 1500, ""},
		{"firewall", func(n *vnet.Network) *vnet.Host {
			return n.Firewall(vnet.Firewall{Filtering: nat.AddressAndPortDependentFiltering}).Host()
		}, "endpoint-independent", "address-and-port-dependent", "consistent", "punched", true, 1500, ""},
		{"cone", behind(vnet.Cone),
			"endpoint-independent", "address-and-port-dependent", "consistent", "punched", false, 1500, ""},
		{"hairpin", behind(hairpin),
			"endpoint-independent", "address-and-port-dependent", "consistent", "punched", true, 1500, ""},
		{"symmetric", behind(vnet.Symmetric),
			"address-and-port-dependent", "address-and-port-dependent", "random", "relayed", false, 1500, "mapping"},
		{"MTU 1280", func(n *vnet.Network) *vnet.Host {
			h := n.Host()
			h.SetLink(vnet.Link{Latency: 10 * time.Millisecond, MTU: 1280})
			return h
		}, "endpoint-independent", "endpoint-independent", "open", "open", true, 1280, ""},
		{"MTU 1228", func(n *vnet.Network) *vnet.Host {
			h := n.Host()
			h.SetLink(vnet.Link{Latency: 10 * time.Millisecond, MTU: 1228})
			return h
		}, "endpoint-independent", "endpoint-independent", "open", "open", true, 1228, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := hyperdhttest.StartVirtual(t, 12)
				found, err := virtually(t, net, tt.host(net.Internet), checks, hyperdht.PublicKey{})
				if err != nil || len(found) != len(checks) {
					t.Fatalf("%d findings, %v", len(found), err)
				}
				advised := ""
				for _, c := range checks {
					if f := found[c.name]; !f.OK {
						t.Errorf("%+v", f)
					} else if f.Advice != "" {
						advised += c.name
					}
				}
				if f := found["mapping"].Facts; f.Mapping != tt.mapping || f.Class != tt.class {
					t.Errorf("mapping: %+v", f)
				}
				if f := found["filtering"].Facts; f.Filtering != tt.filtering {
					t.Errorf("filtering: %+v", f)
				}
				if f := found["hairpin"].Facts; f.Hairpin != tt.hairpin {
					t.Errorf("hairpin: %+v", f)
				}
				if f := found["mtu"].Facts; f.MTU != tt.mtu {
					t.Errorf("MTU: %+v", f)
				}
				if f := found["lan"].Facts; len(f.Addresses) != 1 {
					t.Errorf("local addresses: %+v", f)
				}
				if f := found["address"].Facts; f.Reach != tt.reach || advised != tt.advised {
					t.Errorf("reach: %+v, advice about %q", f, advised)
				}
			})
		})
	}
}

// Where UDP does not pass, the second check says so, and is the last.
func TestDoctorBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 4)
		h := net.Internet.Firewall(vnet.Firewall{BlockUDP: true}).Host()
		found, err := virtually(t, net, h, checks, hyperdht.PublicKey{})
		if err == nil || !strings.Contains(err.Error(), "UDP is blocked") || len(found) != 2 || found["bootstrap"].OK {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// Given a key, doctor tells what a dial to it did.
func TestDoctorDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 12)
		serve := func(h *vnet.Host, cfg hyperdht.ListenConfig) hyperdht.PublicKey {
			n := net.Join(hyperdht.Config{Network: h})
			l, err := n.Listen(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return l.PublicKey()
		}
		some := []check{checks[0], checks[1], checks[2], checks[3], peerCheck}
		dial := func(h *vnet.Host, key hyperdht.PublicKey) (findingLine, error) {
			found, err := virtually(t, net, h, some, key)
			return found["peer"], err
		}
		open := serve(net.Internet.Host(), hyperdht.ListenConfig{})
		cone := serve(net.Internet.NAT(vnet.Cone).Host(), hyperdht.ListenConfig{})
		hard := serve(net.Internet.NAT(vnet.Symmetric).Host(), hyperdht.ListenConfig{})
		shut := serve(net.Internet.Host(), hyperdht.ListenConfig{Allow: func(context.Context, hyperdht.Incoming) error { return io.EOF }})

		f, err := dial(net.Internet.Host(), open)
		if err != nil || f.Facts.Path != "direct" || !f.Facts.Answered {
			t.Errorf("an open peer: %+v, %v", f, err)
		}
		f, err = dial(net.Internet.NAT(vnet.Cone).Host(), cone)
		if err != nil || f.Facts.Path != "punched" || f.Facts.Punch == nil || f.Facts.Punch.Local != "consistent" ||
			!strings.Contains(f.Detail, "NAT here consistent") {
			t.Errorf("a peer behind a NAT: %+v, %v", f, err)
		}
		f, err = dial(net.Internet.NAT(vnet.Symmetric).Host(), hard)
		if err == nil || f.OK || f.Facts.Cause != "HOLEPUNCH_DOUBLE_RANDOMIZED_NATS" || !f.Facts.Answered || f.Facts.Punch == nil ||
			f.Facts.Punch.Local != "random" || f.Facts.Punch.Remote != "random" || !strings.Contains(err.Error(), "--relay-through") {
			t.Errorf("two hard NATs: %+v, %+v, %v", f, f.Facts.Punch, err)
		}
		f, err = dial(net.Internet.Host(), hyperdht.GenerateKeyPair().Public)
		if err == nil || f.Facts.Cause != "PEER_NOT_FOUND" || f.Facts.Found || !strings.Contains(f.Detail, "12 nodes") {
			t.Errorf("nobody: %+v, %v", f, err)
		}
		f, err = dial(net.Internet.Host(), shut)
		if err == nil || f.Facts.Cause != "PEER_CONNECTION_FAILED" || !f.Facts.Found || f.Facts.Answered || len(f.Facts.Handshakes) == 0 ||
			f.Facts.Handshakes[0].Error == "" || !strings.Contains(err.Error(), "allow") {
			t.Errorf("who does not let us in: %+v, %v", f, err)
		}
	})
}

// The program itself, on loopback.
func TestDoctor(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	for i, f := range lines[findingLine](t, n.run("doctor")) {
		if f.Check != checks[i].name || !f.OK || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
	if o := run(t, n.args("doctor", keyHex)...); o.status != 1 || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "not found") ||
		!strings.Contains(o.stdout, "FAILED  A connection to the key: none of 6 nodes asked knows the key\n") {
		t.Errorf("a key that nobody has: %+v", o)
	}
}
