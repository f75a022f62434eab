//! What each page shows: snapshots and history become templates.

mod errors;
mod overview;
mod playground;
mod requests;
mod workers;

use askama::Template;
use vlinders_edge::ApiError;

use crate::assets;
use crate::source::{Role, Snapshot};

pub(crate) use self::{
    errors::ErrorsLive,
    overview::{OverviewLive, Shown},
    playground::Playground,
    requests::RequestsLive,
    workers::WorkersLive,
};

/// The pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Overview,
    Workers,
    Requests,
    Errors,
    Playground,
}

/// What stands around the content of each page.
#[derive(Template)]
#[template(path = "frame.html")]
struct Frame<'a> {
    title: &'a str,
    role: &'static str,
    version: &'a str,
    links: Vec<(&'static str, &'static str, bool)>,
    /// Where the script gets the content again.
    fragment: Option<&'a str>,
    content: &'a str,
    style: String,
    icon: String,
    theme_script: String,
    /// Behind the content.
    script: String,
}

// === impl Page ===

impl Page {
    const ALL: [Self; 5] = [Self::Overview, Self::Workers, Self::Requests, Self::Errors, Self::Playground];

    fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Workers => "Workers",
            Self::Requests => "Requests",
            Self::Errors => "Errors",
            Self::Playground => "Playground",
        }
    }

    /// Relative to any page, since all lie side by side.
    fn link(self) -> &'static str {
        match self {
            Self::Overview => "./",
            Self::Workers => "workers",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Playground => "playground",
        }
    }

    /// Put the frame around `content`, which is HTML. `fragment` is where it is found again.
    pub(crate) fn framed(
        self,
        snapshot: &Snapshot,
        fragment: Option<&str>,
        content: &str,
    ) -> Result<String, ApiError> {
        let script = if self == Self::Playground { &assets::PLAYGROUND } else { &assets::LIVE };
        framed(Some(self), self.title(), snapshot, fragment, content, &script.path())
    }
}

/// The page for what is not there.
pub(crate) fn nowhere(snapshot: &Snapshot) -> Result<String, ApiError> {
    let content = "<h1>Not found</h1><p>There is no such page. <a href=\"./\">To the overview</a>.</p>";
    framed(None, "Not found", snapshot, None, content, &assets::LIVE.path())
}

fn framed(
    page: Option<Page>,
    title: &str,
    snapshot: &Snapshot,
    fragment: Option<&str>,
    content: &str,
    script: &str,
) -> Result<String, ApiError> {
    render(&Frame {
        title,
        role: match snapshot.role {
            Role::Head => "head",
            Role::Serve => "server",
        },
        version: &snapshot.version,
        links: Page::ALL.map(|known| (known.title(), known.link(), page == Some(known))).to_vec(),
        fragment,
        content,
        style: assets::STYLE.path(),
        icon: assets::ICON.path(),
        theme_script: assets::THEME.path(),
        script: script.to_owned(),
    })
}

/// Write a template; it fails only where writing into memory does.
pub(crate) fn render(template: &impl Template) -> Result<String, ApiError> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a page of the dashboard could not be written");
        ApiError::internal("the page could not be written")
    })
}
