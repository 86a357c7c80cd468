module github.com/warren-dht/warren/interop

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/warren-dht/warren v0.0.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/warren-dht/warren => ../
