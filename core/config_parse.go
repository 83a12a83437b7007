package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mailru/easyjson"
	"github.com/mailru/easyjson/jlexer"
)

// ParseConfig reads a configuration from one JSON object and validates it. Keys that are absent or null take their
// default. An unknown or repeated key, a value of another kind, a fraction, and anything after the object are
// refused. The error is a *ConfigError.
func ParseConfig(data []byte) (Config, error) {
	// The lexer alone is lenient: it takes a trailing comma, invalid UTF-8 and unbalanced brackets in skipped parts.
	if !utf8.Valid(data) || !json.Valid(data) {
		return Config{}, &ConfigError{Message: "the configuration is not a JSON document"}
	}
	members, err := scanMembers(data)
	if err != nil {
		return Config{}, err
	}
	config := DefaultConfig()
	if err := easyjson.Unmarshal(data, &config); err != nil {
		return Config{}, decodeError(err, members)
	}
	for _, m := range members { // the decoder takes null for an empty list
		if m.key == "breaker_statuses" && m.kind == "null" {
			config.BreakerStatuses = DefaultConfig().BreakerStatuses
		}
	}
	if err := config.Validate(); err != nil {
		return Config{}, err
	}
	return config, nil
}

// jsonMember is one key of the JSON object: where its value starts, and of which kind it is.
type jsonMember struct {
	key   string
	start int
	kind  string
}

// scanMembers lists the keys of the object in data, which is valid JSON, and refuses repeated ones: the decoder
// would silently let the last one win.
func scanMembers(data []byte) ([]jsonMember, error) {
	in := jlexer.Lexer{Data: data}
	if !in.IsDelim('{') {
		return nil, &ConfigError{Message: "the configuration must be a JSON object, not " + kindOf(data)}
	}
	var members []jsonMember
	in.Delim('{')
	for !in.IsDelim('}') && in.Ok() {
		key := in.String()
		in.WantColon()
		start := in.GetPos()
		value := in.Raw()
		in.WantComma()
		if slices.ContainsFunc(members, func(m jsonMember) bool { return m.key == key }) {
			return nil, &ConfigError{Field: key, Message: fmt.Sprintf("%s is given more than once", key)}
		}
		members = append(members, jsonMember{key, start, kindOf(value)})
	}
	return members, nil
}

// decodeError turns an error of the generated decoder into one that names the field.
func decodeError(err error, members []jsonMember) error {
	var lexed *jlexer.LexerError
	if !errors.As(err, &lexed) {
		return &ConfigError{Message: "the configuration cannot be read: " + err.Error()}
	}
	if lexed.Reason == "unknown field" {
		return &ConfigError{Field: lexed.Data, Message: "unknown option " + quote(lexed.Data)}
	}
	for _, m := range slices.Backward(members) {
		if m.start <= lexed.Offset {
			if m.kind == "a list" && strings.HasPrefix(allowed[m.key], "a list") {
				m.kind = "a list with elements of another kind"
			}
			return mustBe(m.key, m.kind)
		}
	}
	return &ConfigError{Message: "the configuration cannot be read: " + lexed.Reason}
}

// kindOf names the kind of a JSON value by its first byte.
func kindOf(value []byte) string {
	value = []byte(strings.TrimSpace(string(value)))
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the number " + string(value)
}
