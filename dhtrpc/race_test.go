//go:build race

package dhtrpc

// raceEnabled makes large tests smaller.
const raceEnabled = true
