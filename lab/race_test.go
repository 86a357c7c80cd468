//go:build race

package lab

// raceEnabled makes large tests smaller.
const raceEnabled = true
