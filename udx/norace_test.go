//go:build !race

package udx

const raceEnabled = false
