package natlab

import "fmt"

// Class is what a box does to the UDP of the hosts behind it.
type Class int

const (
	// Open: the host has a public address and no firewall.
	Open Class = iota
	// Firewalled: the host has a public address behind a stateful firewall.
	Firewalled
	// Consistent: endpoint-independent mapping that preserves ports, and
	// address-and-port-dependent filtering. The usual home router.
	Consistent
	// Remapping: as Consistent, with other ports outside than inside.
	Remapping
	// Random: address-and-port-dependent mapping to random ports, and filtering of
	// the same kind ("symmetric").
	Random
	// FullCone: as Consistent, but everybody may send to a mapping.
	FullCone
	// OneToOne: the box gives all of a public address to its first host.
	OneToOne
	// Hairpin: as Consistent, and hosts behind the box reach each other at their
	// public addresses. Its two private networks are isolated from each other.
	Hairpin
	// Isolated: as Hairpin without the hairpin.
	Isolated
	// CarrierGrade: as Consistent, behind a second box of the provider's that is
	// Consistent, too.
	CarrierGrade
	// Blocked: no UDP passes; everything else does.
	Blocked

	numClasses
)

var classNames = [numClasses]string{
	"open", "firewalled", "consistent", "remapping", "random", "full cone", "one-to-one", "hairpin", "isolated", "carrier-grade", "blocked",
}

func (c Class) String() string {
	if c < 0 || c >= numClasses {
		return fmt.Sprintf("Class(%d)", int(c))
	}
	return classNames[c]
}

// public says whether hosts of the class have public addresses of their own.
func (c Class) public() bool { return c == Open || c == Firewalled }
