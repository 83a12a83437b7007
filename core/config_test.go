package core

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/mailru/easyjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// configRows is a file that the Python tests read too: both sides must judge every row alike.
type configRows struct {
	Defaults map[string]any `json:"defaults"`
	Targets  []struct {
		Given   string  `json:"given"`
		Scheme  string  `json:"scheme"`
		Host    string  `json:"host"`
		Address string  `json:"address"`
		Refused *string `json:"refused"`
	} `json:"targets"`
	Configs []struct {
		Config     json.RawMessage `json:"config"`
		Normalised map[string]any  `json:"normalised"`
		Refused    *string         `json:"refused"`
		Because    string          `json:"because"`
	} `json:"configs"`
}

// readConfigRows reads the contract's rows. The Python side sets VELITHON_PROXY_CONFIG_ROWS to have rows judged that
// it generated.
func readConfigRows(t *testing.T) configRows {
	t.Helper()
	path := os.Getenv("VELITHON_PROXY_CONFIG_ROWS")
	if path == "" {
		path = "../tests/contract/config_rows.json"
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var rows configRows
	require.NoError(t, json.Unmarshal(data, &rows))
	return rows
}

func TestConfigurationRows(t *testing.T) {
	rows := readConfigRows(t)
	for _, row := range rows.Configs {
		config, err := ParseConfig(row.Config)
		if row.Refused != nil {
			var refused *ConfigError
			if assert.ErrorAs(t, err, &refused, "%s", row.Config) {
				assert.Equal(t, *row.Refused, refused.Field, "%s: %s", row.Config, refused.Message)
				assert.Contains(t, refused.Message, *row.Refused, "%s", row.Config)
				assert.Contains(t, refused.Message, row.Because, "%s", row.Config)
			}
			continue
		}
		if !assert.NoError(t, err, "%s", row.Config) {
			continue
		}
		want := map[string]any{}
		for _, from := range []map[string]any{rows.Defaults, row.Normalised} {
			for key, value := range from {
				want[key] = value
			}
		}
		encoded, err := easyjson.Marshal(config)
		require.NoError(t, err)
		got := map[string]any{}
		require.NoError(t, json.Unmarshal(encoded, &got))
		assert.Equal(t, want, got, "%s", row.Config)
	}
}

func TestTargetRows(t *testing.T) {
	for _, row := range readConfigRows(t).Targets {
		target, err := ParseTarget(row.Given)
		if row.Refused != nil {
			if assert.Error(t, err, "%q", row.Given) {
				_, reason, _ := strings.Cut(err.Error(), " is not a usable URL: ")
				assert.Equal(t, *row.Refused, reason, "%q", row.Given)
			}
			continue
		}
		if assert.NoError(t, err, "%q", row.Given) {
			assert.Equal(t, row.Given, target.Given)
			assert.Equal(t, row.Scheme, target.Scheme, "%q", row.Given)
			assert.Equal(t, row.Host, target.Host, "%q", row.Given)
			assert.Equal(t, row.Address, target.Address, "%q", row.Given)
			assert.Equal(t, row.Scheme == "https", target.TLS, "%q", row.Given)
		}
	}
}

// Documents that no Python caller can produce, and that must not be misread all the same.
func TestParseConfigRefusesWhatIsNotOneJSONObject(t *testing.T) {
	const valid = `{"targets":["http://a"]`
	for name, row := range map[string]struct{ document, field, message string }{
		"empty":             {``, "", "the configuration is not a JSON document"},
		"blank":             {`  `, "", "the configuration is not a JSON document"},
		"null":              {`null`, "", "the configuration must be a JSON object, not null"},
		"list":              {`[]`, "", "the configuration must be a JSON object, not a list"},
		"string":            {`"{}"`, "", "the configuration must be a JSON object, not a string"},
		"number":            {` 5 `, "", "the configuration must be a JSON object, not the number 5"},
		"cut":               {valid, "", "the configuration is not a JSON document"},
		"trailing garbage":  {valid + `}x`, "", "the configuration is not a JSON document"},
		"second object":     {valid + `}{}`, "", "the configuration is not a JSON document"},
		"trailing comma":    {valid + `,}`, "", "the configuration is not a JSON document"},
		"comma in the list": {`{"targets":["http://a",]}`, "", "the configuration is not a JSON document"},
		"NaN":               {valid + `,"timeout_ms":NaN}`, "", "the configuration is not a JSON document"},
		"invalid UTF-8":     {valid + ",\"strategy\":\"\xff\"}", "", "the configuration is not a JSON document"},
		"repeated key":      {valid + `,"timeout_ms":1,"timeout_ms":2}`, "timeout_ms", "timeout_ms is given more than once"},
		"repeated, escaped": {valid + `,"timeout\u005fms":1,"timeout_ms":2}`, "timeout_ms", "timeout_ms is given more than once"},
		"repeated, unknown": {valid + `,"x":1,"x":2}`, "x", "x is given more than once"},
		"no targets":        {`{}`, "targets", "targets must hold at least one URL, it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(row.document))
			var refused *ConfigError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, row.field, refused.Field)
			assert.Equal(t, row.message, refused.Message)
		})
	}
}

func TestConfigErrorsNameFieldValueAndWhatIsAllowed(t *testing.T) {
	for document, message := range map[string]string{
		`{"targets":["http://a"],"timeout_ms":0}`:       "timeout_ms must be a whole number of milliseconds from 1 to 86400000, not 0",
		`{"targets":["http://a"],"timeout_ms":"5"}`:     "timeout_ms must be a whole number of milliseconds from 1 to 86400000, not a string",
		`{"targets":["http://a"],"timeout_ms":0.5}`:     "timeout_ms must be a whole number of milliseconds from 1 to 86400000, not the number 0.5",
		`{"max_retries":true,"targets":["http://a"]}`:   "max_retries must be a whole number from 0 to 10, not a boolean",
		`{"targets":["http://a"],"max_failures":[1]}`:   "max_failures must be a whole number from 1 to 2147483647, not a list",
		`{"targets":["http://a"],"strategy":"best"}`:    `strategy must be one of "round_robin", "random", "weighted", "single", "least_request", "consistent_hash", "first", not "best"`,
		`{"targets":["http://a"],"strategy":{"a":[1]}}`: `strategy must be one of "round_robin", "random", "weighted", "single", "least_request", "consistent_hash", "first", not an object`,
		`{"targets":"http://a"}`:                        `targets must be a list of URLs such as "http://host:port", not a string`,
		`{"targets":["http://a",5]}`:                    `targets must be a list of URLs such as "http://host:port", not a list with elements of another kind`,
		`{"targets":["http://a"],"retries":3}`:          `unknown option "retries"`,
		`{"targets":["http://a/b"]}`:                    `targets[0]: "http://a/b" is not a usable URL: it has a path; put the path into each request`,
	} {
		_, err := ParseConfig([]byte(document))
		assert.EqualError(t, err, message, "%s", document)
	}
}

func TestZeroConfigIsRefused(t *testing.T) {
	var zero Config
	assert.EqualError(t, zero.Validate(), "timeout_ms must be a whole number of milliseconds from 1 to 86400000, not 0")
}

func TestDurationsAreMilliseconds(t *testing.T) {
	config := DefaultConfig()
	assert.Equal(t, "30s", config.Timeout().String())
	assert.Equal(t, "1m0s", config.RecoveryTimeout().String())
}

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		`{"targets":["http://a"]}`, `{"targets":["http://a:1"],"timeout_ms":5,"strategy":"single"}`,
		`{"targets":[{}],"x":[[]]}`, `{"targets":null,"timeout_ms":1e5}`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseConfig(data)
		if err != nil {
			var refused *ConfigError
			require.ErrorAs(t, err, &refused)
			require.NotEmpty(t, refused.Message)
			return
		}
		encoded, err := easyjson.Marshal(config)
		require.NoError(t, err)
		again, err := ParseConfig(encoded)
		require.NoError(t, err)
		require.Equal(t, config, again)
	})
}
