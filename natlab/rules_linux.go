package natlab

import (
	"fmt"
	"net/netip"
	"strings"
)

// The rules below are those of docs/spec/hyperdht-connect.md §16.2. Unsolicited
// datagrams are dropped in the input hook, too: if the box itself took them, it
// would remember a flow of its own and give the inside host's later datagram to
// the same peer another port.

// filterRules let in only what belongs to a flow that began inside. Where hosts
// of one box meet at its public address, the box takes no UDP from them either.
func filterRules(c Class) string {
	input := "iifname wan drop"
	if c == Hairpin || c == Isolated {
		input += "\n    meta l4proto udp drop"
	}
	forward := "ct state established,related accept\n    iifname wan drop"
	switch c {
	case Blocked:
		forward = "meta l4proto udp drop\n    " + forward
	case Hairpin, Isolated:
		forward = `iifname lan oifname lan2 ct status ! dnat drop
    iifname lan2 oifname lan ct status ! dnat drop
    ` + forward
	case FullCone:
		forward = ""
	}
	return fmt.Sprintf(`table ip filt {
  chain forw {
    type filter hook forward priority 0;
    %s
  }
  chain inpt {
    type filter hook input priority 0;
    ct state established,related accept
    %s
  }
}
`, forward, input)
}

// natRules translate; wan is the box's public address, host that of its first
// host.
func natRules(c Class, wan, host netip.Addr) string {
	var pre, post []string
	set := ""
	switch c {
	case Remapping:
		post = []string{fmt.Sprintf("oifname wan ip protocol udp snat ip to %v : jhash udp sport mod 40000 seed 0x1234 offset 20000", wan)}
	case Random:
		post = []string{"oifname wan masquerade fully-random"}
	case OneToOne:
		pre = []string{fmt.Sprintf("iifname wan dnat to %v", host)}
		post = []string{fmt.Sprintf("oifname wan snat to %v", wan)}
	case FullCone, Hairpin:
		set = "map m {\n    type inet_service : ipv4_addr\n    flags dynamic,timeout\n    timeout 5m\n  }\n"
		post = []string{"oifname wan ip protocol udp add @m { udp sport : ip saddr }", "oifname wan masquerade"}
		if c == FullCone {
			pre = []string{fmt.Sprintf("iifname wan ip daddr %v dnat to udp dport map @m", wan)}
			break
		}
		pre = []string{fmt.Sprintf("iifname { lan, lan2 } ip daddr %v dnat to udp dport map @m", wan)}
		post = append(post, fmt.Sprintf("oifname { lan, lan2 } ct status dnat snat to %v", wan))
	default:
		post = []string{"oifname wan masquerade"}
	}
	return fmt.Sprintf(`table ip nat {
  %schain pre {
    type nat hook prerouting priority -100;
    %s
  }
  chain pst {
    type nat hook postrouting priority 100;
    %s
  }
}
`, set, strings.Join(pre, "\n    "), strings.Join(post, "\n    "))
}

// rules are all that a box of the class needs.
func rules(c Class, wan, host netip.Addr) string {
	switch c {
	case Open:
		return ""
	case Firewalled:
		return filterRules(c)
	case OneToOne:
		return natRules(c, wan, host)
	}
	return filterRules(c) + natRules(c, wan, host)
}

// minTTL is the hop limit below which the core drops UDP. So the low-TTL
// datagrams of a punch open the sender's NAT and die, as on a path of many hops.
const minTTL = 20

// coreRules are those of the internet; loss is a percentage.
func coreRules(loss int) string {
	lost := fmt.Sprintf("ip protocol udp numgen random mod 100 < %d drop", loss)
	if loss >= 100 {
		lost = "ip protocol udp drop"
	}
	return fmt.Sprintf(`table ip core
delete table ip core
table ip core {
  chain forw {
    type filter hook forward priority 0;
    ip protocol udp ip ttl < %d drop
    %s
  }
}
`, minTTL, lost)
}
