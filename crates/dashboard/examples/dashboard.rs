//! Shows the pages with made-up data that moves, and a chat API that says the same to everybody.
//!
//! ```text
//! cargo run -p vlinders-dashboard --example dashboard -- 127.0.0.1:8265 [API_KEY]
//! ```

#[path = "dashboard/chat.rs"]
mod chat;
#[path = "dashboard/made_up.rs"]
mod made_up;

use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use vlinders_dashboard::{Dashboard, DashboardOptions};

use crate::made_up::MadeUp;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8265".to_owned());
    let key = args.next();
    let (source, past) = MadeUp::with_an_hour();
    let options = DashboardOptions { api_needs_key: key.is_some(), ..DashboardOptions::default() };
    let dashboard = Dashboard::with_past(Arc::new(source), options, past);
    let app = Router::new()
        .route("/", get(async || Redirect::temporary("dashboard/")))
        .merge(dashboard.router())
        .merge(chat::router(key));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/dashboard/", listener.local_addr()?);
    axum::serve(listener, app).await
}
