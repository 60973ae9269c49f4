// `ress config show` and `ress config reference`.

import Configuration
import Shell

func configShow(_ options: ConfigShowOptions) throws -> ExitCode {
  let configuration = try ConfigurationDecoder.decode(
    file: options.configuration, overrides: options.set)
  Terminal.write(ConfigurationEncoder.yaml(configuration))
  return .done
}

func configReference() -> ExitCode {
  Terminal.write(ConfigurationReference.markdown())
  return .done
}
