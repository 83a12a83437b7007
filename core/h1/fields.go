package h1

// Character classes of RFC 9110 section 5.6, as a table: checking a header costs one load a byte.
const (
	classToken = 1 << iota // tchar
	classValue             // field-content, SP and HTAB: everything but control characters
	classHex
)

var classes = func() (table [256]uint8) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			table[c] |= classToken
		}
		if (c >= ' ' && c != 0x7f) || c == '\t' {
			table[c] |= classValue
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			table[c] |= classHex
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		table[c] |= classToken
	}
	return table
}()

func validToken[T string | []byte](name T) bool {
	for i := range len(name) {
		if classes[name[i]]&classToken == 0 {
			return false
		}
	}
	return len(name) > 0
}

// ValidName reports whether a field may have this name (RFC 9110 section 5.1).
func ValidName(name string) bool { return validToken(name) }

func validValue(value []byte) bool {
	for _, c := range value {
		if classes[c]&classValue == 0 {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return classes[c]&classHex != 0 }

// equalFold compares a field name with a lower-case ASCII literal.
func equalFold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func trimBlanks(value []byte) []byte {
	for len(value) > 0 && isBlank(value[0]) {
		value = value[1:]
	}
	for len(value) > 0 && isBlank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	return value
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// elements yields the non-empty elements of a comma-separated list (RFC 9110 section 5.6.1).
func elements(value []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for start := 0; start <= len(value); {
			end := start
			for end < len(value) && value[end] != ',' {
				end++
			}
			if element := trimBlanks(value[start:end]); len(element) > 0 && !yield(element) {
				return
			}
			start = end + 1
		}
	}
}
