// Package attacks runs attack programs against warren: real processes and real
// sockets in a network namespace that the test makes for itself. Each file holds
// one attack, each test asserts the bound that SECURITY.md claims.
//
//	go test ./lab/attacks -v              # as root; prints a table: attack, figure, bound
//	go test ./lab/attacks -v -args -full  # the same at full scale, some minutes
//
// In the namespace the loopback device carries 5.0.0.0/8 to 12.0.0.0/8. The
// addresses count as public, so limits for public sources apply, and an attacker
// can send from any of them. Nothing leaves the machine.
//
//	5.i.0.1     honest DHT nodes
//	6.0.0.1     the server under attack
//	7.x.x.x     honest clients
//	8.x.x.x     attackers
//	9.x.x.x     forged source addresses, and victims of a flood
//	10.x.x.x    an observer on the path
//
// The tests need Linux, root and ip (iproute2). They skip themselves without.
package attacks
