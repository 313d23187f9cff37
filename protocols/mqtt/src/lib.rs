//! MQTT 3.1, 3.1.1 and 5.0: the codec and the connection over any byte stream.

mod settings;

pub use settings::Settings;
