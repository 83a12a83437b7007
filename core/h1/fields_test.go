package h1

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The classes of RFC 9110 section 5.6, written out: each of the 256 bytes is in the classes that it is listed in.
func TestEveryByteIsInItsClasses(t *testing.T) {
	const (
		digits  = "0123456789"
		letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		marks   = "!#$%&'*+-.^_`|~"
		others  = "\"(),/:;<=>?@[\\]{} \t" // visible, or blank
	)
	for c := range 256 {
		b := byte(c)
		text := string([]byte{b})
		assert.Equal(t, strings.Contains(digits+letters+marks, text), validToken(text), "token %q", text)
		assert.Equal(t, c >= 0x80 || strings.Contains(digits+letters+marks+others, text), validValue([]byte(text)), "value %q", text)
		assert.Equal(t, strings.Contains(digits+"abcdefABCDEF", text), isHex(b), "hexadecimal digit %q", text)
		assert.Equal(t, strings.Contains(" \t", text), isBlank(b), "blank %q", text)
	}
}

func TestATokenIsNotEmpty(t *testing.T) {
	assert.False(t, validToken(""))
	assert.False(t, ValidName(""))
	assert.True(t, ValidName("X-A"))
	assert.False(t, ValidName("X A"))
}

// Only letters are folded: others differ from another byte in the same bit, like @ from the grave accent.
func TestNamesAreFoldedByTheirLettersAlone(t *testing.T) {
	for c := range 256 {
		for lower := range 0x80 {
			if lower >= 'A' && lower <= 'Z' {
				continue // is not lower case
			}
			want := c == lower || (lower >= 'a' && lower <= 'z' && c == lower-'a'+'A')
			assert.Equal(t, want, equalFold([]byte{byte(c)}, string(rune(lower))), "%q and %q", c, lower)
		}
	}
	assert.True(t, equalFold([]byte("Content-LENGTH"), "content-length"))
	assert.False(t, equalFold([]byte("content-lengthy"), "content-length"))
	assert.False(t, equalFold([]byte("content-lengt"), "content-length"))
}

func TestBlanksAreTrimmedAtBothEnds(t *testing.T) {
	for value, trimmed := range map[string]string{
		"": "", " ": "", "\t \t": "", "a": "a", " a": "a", "a ": "a", "\ta\t": "a", "  a \t b\t ": "a \t b", "\va\r": "\va\r",
	} {
		assert.Equal(t, trimmed, string(trimBlanks([]byte(value))), "%q", value)
	}
}

func TestTheElementsOfAListAreThoseThatAreNotEmpty(t *testing.T) {
	for value, want := range map[string][]string{
		"": nil, ",": nil, " ,\t, ": nil, "a": {"a"}, ",a": {"a"}, "a,": {"a"}, "a,b": {"a", "b"}, " a ,, b c ,\td": {"a", "b c", "d"},
	} {
		var got []string
		for element := range elements([]byte(value)) {
			got = append(got, string(element))
		}
		assert.Equal(t, want, got, "%q", value)
	}
	for element := range elements([]byte("a, b, c")) {
		assert.Equal(t, "a", string(element), "whoever has seen enough is shown no more")
		break
	}
}
